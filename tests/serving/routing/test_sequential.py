"""The sequential test: false alarms stay rare however often one looks, and it finds the worse."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlops_assets.serving.routing import SequentialTest, Tally, Verdict, confidence_sequence

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], tuple[Floats, Floats]]

ALPHA = 0.2  # high, so that a test which is not valid would show it in few simulations
RUNS = 200
LOOKS = 60
EACH = 100  # requests between two looks
SHARE = 0.2


def failures(champion: float, canary: float) -> Draw:
    def draw(rng: np.random.Generator, many: int, few: int) -> tuple[Floats, Floats]:
        return rng.random(many) < champion, rng.random(few) < canary

    return draw


def drifting_failures(rng: np.random.Generator, many: int, few: int) -> tuple[Floats, Floats]:
    """Both arms fail alike, now more, now less: an outage of something that both need."""
    rate = 0.02 if rng.random() < 0.8 else 0.3
    return rng.random(many) < rate, rng.random(few) < rate


def losses(rng: np.random.Generator, many: int, few: int) -> tuple[Floats, Floats]:
    return rng.beta(0.5, 2.0, many), rng.beta(5.0, 20.0, few)  # both have a mean of 0.2


def verdicts(test: SequentialTest, draw: Draw, seed: int) -> list[Verdict]:
    """Live one experiment, looking after every batch until the test says something."""
    rng = np.random.default_rng(seed)
    champion, canary = Tally(), Tally()
    said = []
    for _ in range(LOOKS):
        few = int(rng.binomial(EACH, SHARE))
        seen, seen_of_canary = draw(rng, EACH - few, few)
        champion += Tally(EACH - few, float(seen.sum()))
        canary += Tally(few, float(seen_of_canary.sum()))
        said.append(test.judge(champion, canary).verdict)
        if said[-1] is not Verdict.go_on:
            break
    return said


def most_alarms() -> float:
    """So many alarms in so many runs would be no accident (five standard deviations: 1e-6)."""
    return RUNS * ALPHA + 5 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))


@pytest.mark.parametrize(
    ("margin", "draw"),
    [
        (0.0, failures(0.05, 0.05)),
        (0.0, failures(0.5, 0.5)),
        (0.02, failures(0.01, 0.03)),
        (0.0, drifting_failures),
        (0.0, losses),
    ],
    ids=["rare", "frequent", "at the margin", "drifting", "losses"],
)
def test_under_continuous_peeking_false_alarms_stay_below_alpha(margin: float, draw: Draw) -> None:
    test = SequentialTest(margin, ALPHA)
    alarms = sum(Verdict.stop_worse in verdicts(test, draw, seed) for seed in range(RUNS))
    assert alarms <= most_alarms()


def test_a_test_for_one_look_would_not_pass_that() -> None:
    """The simulation above can tell: the usual z-test raises false alarms in every other run."""
    alarms = 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        n = np.array([0, 0])
        s = np.array([0.0, 0.0])
        for _ in range(LOOKS):
            few = int(rng.binomial(EACH, SHARE))
            n += (EACH - few, few)
            seen = failures(0.05, 0.05)(rng, EACH - few, few)
            s += [each.sum() for each in seen]
            rate = s.sum() / n.sum()
            spread = math.sqrt(max(rate * (1 - rate) * (1 / n[0] + 1 / n[1]), 1e-12))
            if (s[1] / n[1] - s[0] / n[0]) / spread > 0.8416:  # one-sided, 20 %
                alarms += 1
                break
    assert alarms > most_alarms()


@pytest.mark.parametrize(
    ("champion", "canary", "margin", "requests"),
    [(0.001, 1.0, 0.01, 200), (0.001, 0.1, 0.01, 1_500), (0.01, 0.05, 0.0, 4_000)],
)
def test_it_finds_what_is_worse_soon(
    champion: float, canary: float, margin: float, requests: int
) -> None:
    test = SequentialTest(margin, 0.05, minimum=10)
    took = []
    for seed in range(40):
        said = verdicts(test, failures(champion, canary), seed)
        assert said[-1] is Verdict.stop_worse
        took.append(len(said) * EACH)
    assert sorted(took)[len(took) // 2] <= requests


def test_it_shows_what_is_not_worse_and_is_wrong_about_that_rarely() -> None:
    test = SequentialTest(0.05, ALPHA)
    good = [verdicts(test, failures(0.01, 0.01), seed)[-1] for seed in range(40)]
    assert set(good) == {Verdict.done}
    bad = [verdicts(test, failures(0.01, 0.06), seed) for seed in range(RUNS)]
    assert sum(Verdict.done in said for said in bad) <= most_alarms()


def test_there_is_no_verdict_before_the_minimum() -> None:
    test = SequentialTest(0.0, 0.05, minimum=30)
    champion = Tally(10_000, 0.0)
    assert test.judge(champion, Tally(29, 29.0)).verdict is Verdict.go_on
    assert test.judge(champion, Tally(30, 30.0)).verdict is Verdict.stop_worse


def test_without_observations_there_is_nothing_to_say() -> None:
    test = SequentialTest(0.01, 0.05)
    for champion, canary in ((Tally(), Tally(9, 9)), (Tally(9, 0), Tally()), (Tally(), Tally())):
        judged = test.judge(champion, canary)
        assert (judged.verdict, judged.difference, judged.p_value) == (Verdict.go_on, None, 1.0)


tallies = st.integers(1, 10**9).flatmap(
    lambda n: st.floats(0, 1).map(lambda mean: Tally(n, min(mean * n, n)))
)


@given(champion=tallies, canary=tallies, margin=st.sampled_from([0.0, 0.01, 0.5, 0.99]))
def test_any_counts_give_a_p_value(champion: Tally, canary: Tally, margin: float) -> None:
    judged = SequentialTest(margin, 0.05).judge(champion, canary)
    assert 0 <= judged.p_value <= 1
    if judged.verdict is Verdict.stop_worse:
        assert canary.total / canary.count - champion.total / champion.count > margin


@given(seen=tallies, alpha=st.sampled_from([0.01, 0.05, 0.5]))
def test_a_confidence_sequence_holds_the_mean_and_shrinks(seen: Tally, alpha: float) -> None:
    low, high = confidence_sequence(seen, alpha)
    assert 0 <= low <= seen.total / seen.count <= high <= 1
    more = Tally(seen.count * 10, seen.total * 10)
    assert confidence_sequence(more, alpha)[1] - confidence_sequence(more, alpha)[0] <= high - low


def test_a_confidence_sequence_rarely_ever_misses() -> None:
    missed = 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        seen = np.cumsum(rng.random(2_000) < 0.1)
        looks = [Tally(n, float(seen[n - 1])) for n in range(20, 2_001, 60)]
        ends = [confidence_sequence(tally, ALPHA) for tally in looks]
        missed += any(not low <= 0.1 <= high for low, high in ends)
    assert missed <= most_alarms()
    assert confidence_sequence(Tally(), 0.05) == (0.0, 1.0)


def test_what_cannot_have_been_seen_is_refused() -> None:
    for count, total in ((1, 1.5), (1, -0.1), (0, 1.0), (1, math.nan)):
        with pytest.raises(ValueError, match="cannot add up"):
            Tally(count, total)
