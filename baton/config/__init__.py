"""The pipeline's configuration: YAML in, a validated `Config` out; every default; search spaces as data."""
