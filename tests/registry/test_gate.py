"""The gate promotes what is better beyond doubt, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_assets.registry import Contender, Decision, decide
from mlops_assets.training import ModelFamily
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.metrics import MetricError

BEFORE = date(2013, 2, 14)
RESAMPLING = Resampling(draws=1000, seed=4)


@pytest.fixture
def test_part() -> Part:
    import pandas as pd

    random = np.random.default_rng(8)
    days = np.repeat(np.arange("2013-02-15", "2013-04-01", dtype="datetime64[D]"), 60)
    label = (random.random(len(days)) < 0.3).astype(float)
    empty = pd.DataFrame(index=range(len(days)))
    return Part("test", FeatureSchema((), ()), empty, label, days, empty)


def answers(part: Part, skill: float, seed: int = 1) -> NDArray[np.float64]:
    """Give answers that know the label the better, the greater the skill."""
    noise = np.random.default_rng(seed).normal(size=len(part))
    return 1 / (1 + np.exp(-(skill * (part.label - 0.5) + noise - 0.8)))


def judged(
    family: ModelFamily, part: Part, new: NDArray[np.float64], old: NDArray[np.float64], **kw: date
) -> Decision:
    return decide(
        family,
        part,
        Contender("late_flights/2", new, kw.get("new_until", BEFORE)),
        Contender("late_flights/1", old, kw.get("old_until", BEFORE)),
        RESAMPLING,
    )


def unmet(decision: Decision) -> list[str]:
    return [condition.name for condition in decision.conditions if not condition.met]


def test_a_clearly_better_model_is_promoted(family: ModelFamily, test_part: Part):
    decision = judged(family, test_part, answers(test_part, 1.5), answers(test_part, 0.5))
    assert decision.promote
    assert decision.comparison.low > 0
    assert "beats late_flights/1" in decision.summary


def test_identical_models_never_promote(family: ModelFamily, test_part: Part):
    same = answers(test_part, 1.5)
    decision = judged(family, test_part, same, same.copy())
    assert not decision.promote
    assert unmet(decision) == ["different answers", "gain"]
    assert decision.comparison.gain == decision.comparison.high == 0


def test_a_model_that_only_rescales_the_champions_answers_never_promotes(
    family: ModelFamily, test_part: Part
):
    old = answers(test_part, 1.0)
    decision = judged(family, test_part, old / 2, old)
    assert unmet(decision) == ["gain"]  # the ranking is the same, so the gain is exactly 0


def test_a_worse_model_never_promotes(family: ModelFamily, test_part: Part):
    decision = judged(family, test_part, answers(test_part, 0.5), answers(test_part, 1.5))
    assert unmet(decision) == ["gain"]
    assert decision.comparison.gain < 0
    assert "does not replace" in decision.summary


def test_noise_rarely_promotes(family: ModelFamily, test_part: Part):
    promoted = 0
    for seed in range(40):
        new, old = (answers(test_part, 1, seed=2 * seed + side) for side in (0, 1))
        promoted += judged(family, test_part, new, old).promote
    assert promoted <= 4  # one side of a 95 % interval: 1 of 40 is expected


def test_a_gain_below_the_minimum_does_not_promote(
    declare: Callable[..., ModelFamily], test_part: Part
):
    new, old = answers(test_part, 1.2), answers(test_part, 1.0)
    gain = judged(declare(), test_part, new, old).comparison
    enough = declare(gate={"minimum_gain": max(0.0, gain.low - 0.001)})
    too_much = declare(gate={"minimum_gain": gain.low + 0.001})
    assert judged(enough, test_part, new, old).promote == (gain.low > 0)
    assert unmet(judged(too_much, test_part, new, old)) == ["gain"]


@pytest.mark.parametrize("side", ["new_until", "old_until"])
def test_rows_that_either_learnt_from_are_refused(side: str, family: ModelFamily, test_part: Part):
    decision = judged(
        family, test_part, answers(test_part, 1.5), answers(test_part, 0.5),
        **{side: date(2013, 2, 15)},
    )  # fmt: skip
    assert unmet(decision) == ["untouched rows"]
    assert "but the test rows begin on 2013-02-15" in decision.summary


def test_a_metric_that_cannot_be_computed_fails_the_gate(family: ModelFamily, test_part: Part):
    one_class = replace(test_part, label=np.zeros(len(test_part)))
    decision = judged(family, one_class, answers(test_part, 1.5), answers(test_part, 0.5))
    assert not decision.promote
    assert decision.comparison is None
    assert "roc_auc cannot be compared: all 2700 rows have label 0" in decision.summary


def test_answers_that_are_no_probabilities_are_an_error_not_a_score(
    family: ModelFamily, test_part: Part
):
    broken = answers(test_part, 1.5)
    broken[7] = np.nan
    with pytest.raises(MetricError, match="row 7: probability nan"):
        judged(family, test_part, broken, answers(test_part, 0.5))


def test_a_limit_on_calibration_is_a_limit(declare: Callable[..., ModelFamily], test_part: Part):
    new = np.clip(answers(test_part, 1.5) + 0.2, 0, 1)
    strict = declare(gate={"max_calibration_error": 0.05})
    assert unmet(judged(strict, test_part, new, answers(test_part, 0.5))) == ["calibration"]


def test_a_decision_keeps_everything_it_rests_on(family: ModelFamily, test_part: Part):
    decision = judged(family, test_part, answers(test_part, 1.5), answers(test_part, 0.5))
    kept = json.loads(decision.to_json())
    assert kept["promote"] is True
    assert kept["comparison"]["resampling"] == {"draws": 1000, "seed": 4, "confidence": 0.95}
    assert kept["comparison"]["low"] == decision.comparison.low
    assert kept["rows"] == 2700
    assert kept["first_day"] == "2013-02-15"
