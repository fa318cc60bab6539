"""Mutation testing of the lines that matter most: each is changed in small ways, and a test must notice.

`python -m mutants` (or `make mutants`). Nothing of the checkout is touched: copies of it are changed.
"""
