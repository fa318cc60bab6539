"""Where rows come from: files of CSV, Parquet and pictures, tables of Spark."""
