"""Self-contained pages: the report, the steps' cards, the data profile."""
