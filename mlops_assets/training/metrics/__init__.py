"""Metrics as functions of how often each day counts, for each task.

What belongs here: the reductions of rows to per-day statistics, one file a task. How draws are made
and turned into intervals is in `mlops_assets.training.bootstrap`; which metrics a task has, the
task says (`Task.metrics`).
"""

from mlops_assets.training.metrics.scored import Floats, Metric, MetricError, Scored, Weighted

__all__ = ["Floats", "Metric", "MetricError", "Scored", "Weighted"]
