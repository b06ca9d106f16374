"""What an evaluated day says, a sentence each: whether there is much drift, and how well it does.

The checks of a graph and the alerts of a replay say the same, because they ask here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.monitoring.drift import COMPARED
from mlops_assets.monitoring.profile import Subject
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    from mlops_assets.monitoring.decision import MetricEvidence
    from mlops_assets.production.evaluating import EvaluatedDay

_NAMED = 5  # features that a sentence names


@dataclass(frozen=True)
class Verdict:
    """Whether something is as it should be.

    Attributes
    ----------
    passed
        Also where nothing could be judged.
    said
        The numbers, for people.
    """

    passed: bool
    said: str


def drift_verdict(found: "EvaluatedDay", family: ModelFamily) -> Verdict:
    """Say whether few features drifted on the newest day, and no prediction did."""
    features = found.drift_of(Subject.feature).report
    if features.state != COMPARED:
        nothing = f"{found.day}: {features.state} ({features.rows:,}), so nothing was judged"
        return Verdict(True, nothing)
    answers = found.drift_of(Subject.prediction).report.drifted
    much = features.drifted_share >= family.retraining.drifted_features
    said = f"{found.day}: {len(features.drifted)} of {len(features.columns)} features drifted"
    if features.drifted:
        said += f", such as {', '.join(features.drifted[:_NAMED])}"
    if answers:
        said += "; the predictions drifted"
    return Verdict(not much and not answers, said)


def performance_verdict(found: "EvaluatedDay", family: ModelFamily) -> Verdict:
    """Say whether the family does as well as when its champion was chosen, beyond chance."""
    policy = family.retraining
    worse, said = False, []
    for kind, evidence, allowed in (
        ("realised", found.realised, policy.metric_drop),
        ("estimated", found.estimated, policy.estimated_drop),
    ):
        if evidence is None:
            continue
        said.append(f"{kind} {_compared(evidence)}")
        certain = evidence.certain_drop
        worse = worse or (allowed is not None and certain is not None and certain > allowed)
    return Verdict(not worse, "; ".join(said) or "there is nothing to compare yet")


def _compared(evidence: "MetricEvidence") -> str:
    return f"{evidence.metric} {evidence.now}, {evidence.reference:.4f} when it was chosen"
