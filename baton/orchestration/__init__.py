"""What runs the steps: processes, cache, resuming, checks before a run, tidying up."""
