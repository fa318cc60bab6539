"""What any part needs of this machine: processes, threads, locks, files, paths, the Spark session."""
