"""A Dagster platform in which data and models are one lineage graph.

The package root holds no code: import from the sub-package that owns the idea.
"""
