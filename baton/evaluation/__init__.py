"""Targets and predictions in, how good a model is out. Knows no TensorFlow."""
