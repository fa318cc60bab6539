"""Fault injection: every step killed at every one of its commit points, run again, and compared.

`python -m faults` (or `make faults`). Nothing of it is in the product: the processes are watched from
outside, by Python's audit hook and SQLAlchemy's events.
"""
