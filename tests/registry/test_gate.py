"""The gate promotes what is better beyond doubt, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_assets.registry import Contender, Decision, decide
from mlops_assets.registry.latency import Latency, measure_latency
from mlops_assets.registry.non_inferiority import TOGETHER, Verdict
from mlops_assets.training import ModelFamily
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.metrics import MetricError
from mlops_assets.training.tasks import Binary, Multiclass, Regression, Task

BEFORE = date(2013, 2, 14)
RESAMPLING = Resampling(draws=1000, seed=4)


@pytest.fixture
def test_part() -> Part:
    import pandas as pd

    random = np.random.default_rng(8)
    days = np.repeat(np.arange("2013-02-15", "2013-04-01", dtype="datetime64[D]"), 60)
    label = (random.random(len(days)) < 0.3).astype(float)
    empty = pd.DataFrame(index=range(len(days)))
    carriers = random.choice(["AA", "B6", "ZZ"], p=[0.6, 0.37, 0.03], size=len(days))
    context = pd.DataFrame({"carrier": carriers, "month": days.astype("datetime64[M]").astype(str)})
    return Part("test", FeatureSchema((), ()), Binary(), empty, label, days, context)


def answers(part: Part, skill: float, seed: int = 1) -> NDArray[np.float64]:
    """Give answers that know the label the better, the greater the skill."""
    noise = np.random.default_rng(seed).normal(size=len(part))
    return 1 / (1 + np.exp(-(skill * (part.label - 0.5) + noise - 0.8)))


def judged(
    family: ModelFamily,
    part: Part,
    new: NDArray[np.float64],
    old: NDArray[np.float64],
    latency: Latency | None = None,
    **kw: date,
) -> Decision:
    return decide(
        family,
        part,
        Contender("late_flights/2", new, kw.get("new_until", BEFORE), latency),
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
    assert kept["resampling"]["seed"] == 4
    assert kept["rows"] == 2700
    assert kept["first_day"] == "2013-02-15"


# Slices -------------------------------------------------------------------------------------------

SLICES = {
    "slices": ["carrier"],
    "gate": {"draws": 400, "slices": {"margin": 0.05, "columns": ["carrier"]}},
}


def worsened(part: Part, carrier: str, skill: float) -> NDArray[np.float64]:
    """Give better answers than the champion's for all but one carrier."""
    better, other = answers(part, 3.0), answers(part, skill)
    return np.where(part.context["carrier"] == carrier, other, better)


def test_a_better_average_does_not_hide_a_worse_slice(
    declare: Callable[..., ModelFamily], test_part: Part
):
    old = answers(test_part, 1.0)
    new = worsened(test_part, "B6", 0.5)
    family = declare(**SLICES)
    decision = judged(family, test_part, new, old)
    assert decision.comparison.low > 0
    assert unmet(decision) == ["slices"]
    assert "worse by more than the margin of 0.05: carrier B6" in decision.summary
    assert judged(declare(), test_part, new, old).promote
    kept = json.loads(decision.to_json())["slices"]
    assert {s["value"]: s["verdict"] for s in kept} == {
        "AA": "not worse",
        "B6": "worse",
        "ZZ": "too small to judge",
    }


def test_slices_that_are_not_worse_let_it_through(
    declare: Callable[..., ModelFamily], test_part: Part
):
    decision = judged(
        declare(**SLICES), test_part, answers(test_part, 1.5), answers(test_part, 1.0)
    )
    assert decision.promote
    reasons = {condition.name: condition.reason for condition in decision.conditions}
    assert reasons["slices"] == (
        "none of 2 slices is worse by more than 0.05; 1 are too small to judge alone"
    )


def test_a_margin_that_equality_could_not_show_judges_nothing_and_promotes_nothing(
    declare: Callable[..., ModelFamily], test_part: Part
):
    family = declare(slices=["carrier"], gate={"slices": {"margin": 0.001}})
    decision = judged(family, test_part, answers(test_part, 1.5, seed=3), answers(test_part, 1.5))
    assert {found.verdict for found in decision.slices} == {Verdict.too_small}
    assert "slices" in unmet(decision)
    assert "no slice by carrier has enough rows to show a margin of 0.001" in decision.summary


def test_a_slice_that_is_better_passes_however_different_the_models_are(
    declare: Callable[..., ModelFamily], test_part: Part
):
    guess = answers(test_part, 0.0)  # intervals against it are wide
    family = declare(slices=["carrier"], gate={"slices": {"margin": 0.01}})
    decision = judged(family, test_part, answers(test_part, 1.5), guess)
    assert {f.value: f.verdict for f in decision.slices if f.rows > 200} == {
        "AA": Verdict.not_worse,
        "B6": Verdict.not_worse,
    }
    assert decision.promote


def test_small_slices_are_judged_together(declare: Callable[..., ModelFamily], test_part: Part):
    tails = np.arange(len(test_part)) % 30  # ninety rows each
    part = replace(test_part, context=test_part.context.assign(carrier=tails.astype(str)))
    decision = judged(declare(**SLICES), part, answers(part, 1.5), answers(part, 1.0))
    *single, together = decision.slices
    assert {found.verdict for found in single} == {Verdict.too_small}
    assert all("rows; at least 200" in found.reason for found in single)
    assert (together.value, together.rows) == (TOGETHER, len(part))
    assert together.verdict is Verdict.not_worse
    assert decision.promote
    worse = judged(declare(**SLICES), part, answers(part, 1.0), answers(part, 1.5))
    assert worse.slices[-1].verdict is Verdict.worse


def test_a_slice_of_one_class_is_reported_and_not_judged(
    declare: Callable[..., ModelFamily], test_part: Part
):
    label = np.where(test_part.context["carrier"] == "B6", 0.0, test_part.label)
    part = replace(test_part, label=label)
    decision = judged(declare(**SLICES), part, answers(part, 1.5), answers(part, 1.0))
    found = {s.value: s for s in decision.slices}
    assert found["B6"].verdict is Verdict.too_small
    assert "both classes are needed" in found["B6"].reason
    assert found["B6"].gain is None


def test_the_slices_of_the_family_are_the_default(
    declare: Callable[..., ModelFamily], test_part: Part
):
    family = declare(slices=["month"], gate={"slices": {"margin": 0.1}})
    decision = judged(family, test_part, answers(test_part, 1.5), answers(test_part, 1.0))
    assert {found.column for found in decision.slices} == {"month"}


def test_an_equal_model_is_rarely_called_worse_in_a_slice_large_enough_to_judge(
    declare: Callable[..., ModelFamily], test_part: Part
):
    family = declare(**SLICES)
    worse = 0
    for seed in range(20):
        new, old = (answers(test_part, 1, seed=100 + 2 * seed + side) for side in (0, 1))
        worse += "slices" in unmet(judged(family, test_part, new, old))
    assert worse <= 8  # each of two slices passes with a probability of at least 0.8


# Latency ------------------------------------------------------------------------------------------


def test_a_limit_on_latency_is_a_limit_and_needs_a_measurement(
    declare: Callable[..., ModelFamily], test_part: Part
):
    family = declare(gate={"max_latency_ms": 10})
    new, old = answers(test_part, 1.5), answers(test_part, 0.5)
    fast, slow = Latency(1.0, 9.9, 200), Latency(1.0, 10.1, 200)
    assert judged(family, test_part, new, old, fast).promote
    decision = judged(family, test_part, new, old, slow)
    assert unmet(decision) == ["latency"]
    assert "up to 10.10 ms; at most 10 ms" in decision.summary
    assert json.loads(decision.to_json())["latency"]["p95_ms"] == 10.1
    assert unmet(judged(family, test_part, new, old)) == ["latency"]


def test_latency_is_that_of_single_rows():
    import pandas as pd

    asked: list[int] = []

    class Counting:
        def predict(self, features: pd.DataFrame) -> NDArray[np.float64]:
            asked.append(len(features))
            return np.zeros(len(features))

    found = measure_latency(Counting(), pd.DataFrame({"x": [1.0, 2.0, 3.0]}))
    assert set(asked) == {1}
    assert found.calls < len(asked)  # some were asked to warm up, untimed
    assert 0 < found.p50_ms <= found.p95_ms


# Other tasks --------------------------------------------------------------------------------------


def regression(part: Part) -> tuple[Task, NDArray[np.float64], Callable[[float], NDArray]]:
    random = np.random.default_rng(3)
    truth = random.normal(size=len(part)) * 20
    seen = truth + random.normal(size=len(part)) * 5

    def quantiles(noise: float) -> NDArray[np.float64]:
        middle = seen + np.random.default_rng(9).normal(size=len(part)) * noise
        spread = 1.5 * np.hypot(5, noise)  # honest ones have 1.28: calibration must have a gap
        return np.stack([middle - spread, middle, middle + spread], axis=1)

    return Regression((0.1, 0.5, 0.9)), truth, quantiles


def multiclass(part: Part) -> tuple[Task, NDArray[np.float64], Callable[[float], NDArray]]:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, size=len(part)).astype(float)

    def shares(noise: float) -> NDArray[np.float64]:
        score = np.eye(3)[truth.astype(int)] * 1.5
        score = score + np.random.default_rng(9).normal(size=score.shape) * noise
        raised = np.exp(score)
        return raised / raised.sum(axis=1, keepdims=True)

    return Multiclass(("a", "b", "c")), truth, shares


@pytest.mark.parametrize("kind", [regression, multiclass])
def test_other_tasks_are_judged_by_their_own_metric(
    kind: Callable[..., tuple[Task, NDArray[np.float64], Callable[[float], NDArray]]],
    declare: Callable[..., ModelFamily],
    test_part: Part,
):
    task, truth, model = kind(test_part)
    part = replace(test_part, task=task, label=truth)
    family = declare(
        task=task.name,
        primary_metric=task.primary_metrics[0],
        slices=["carrier"],
        gate={
            "draws": 400,
            "max_calibration_error": 0.5,
            "slices": {"margin": 0.5, "columns": ["carrier"]},
        },
    )
    good, bad = model(0.5), model(3.0)
    better = judged(family, part, good, bad)
    assert better.promote, better.summary
    assert better.metric == task.primary_metrics[0]
    assert unmet(judged(family, part, good, good.copy())) == ["different answers", "gain"]
    assert "gain" in unmet(judged(family, part, bad, good))
    strict = family.gate.model_copy(update={"max_calibration_error": 1e-6})
    found = judged(family.model_copy(update={"gate": strict}), part, good, bad)
    assert unmet(found) == ["calibration"]
