"""Petastorm's and Horovod's own tests, run on this environment's builds of them."""
