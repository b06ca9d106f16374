"""Monitoring: what a model in use meets, how well it does, and whether to train it again.

Here belongs what is computed from tables of the lake: drift, performance realised and estimated,
service health, and the retraining decision. Nothing here launches, alerts or knows Dagster. This
module imports nothing heavy; import what is needed from the modules beside it.
"""

from mlops_assets.monitoring.errors import MonitoringError

__all__ = ["MonitoringError"]
