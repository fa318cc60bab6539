"""The model of raw columns: exported, checked, served, and scoring new data."""
