"""Routing: which version answers a request, and what stops a challenger that is worse.

Here belong shadow and canary: what is switched, who is drawn, what is counted, and the sequential
test over the counts. How a model is asked, and how answers are logged, belongs to the app.
"""

from mlops_assets.serving.routing.contest import Contest, deployed_contests
from mlops_assets.serving.routing.counts import Arm, ArmCounter, ArmCounts, read_counts
from mlops_assets.serving.routing.errors import TrafficError
from mlops_assets.serving.routing.monitor import CanaryMonitor, CanaryState, canary_state
from mlops_assets.serving.routing.router import Router, counts_folder
from mlops_assets.serving.routing.sequential import (
    Judgement,
    SequentialTest,
    Tally,
    Verdict,
    confidence_sequence,
)
from mlops_assets.serving.routing.traffic import (
    Experiment,
    Plan,
    TrafficStore,
    plan,
    read_traffic,
)

__all__ = [
    "Arm",
    "ArmCounter",
    "ArmCounts",
    "CanaryMonitor",
    "CanaryState",
    "Contest",
    "Experiment",
    "Judgement",
    "Plan",
    "Router",
    "SequentialTest",
    "Tally",
    "TrafficError",
    "TrafficStore",
    "Verdict",
    "canary_state",
    "confidence_sequence",
    "counts_folder",
    "deployed_contests",
    "plan",
    "read_counts",
    "read_traffic",
]
