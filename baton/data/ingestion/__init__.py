"""A source in, a dataset folder out: on this machine, or on Spark, by the same rules."""
