"""A bad model is taken back by what is known of it, once, and never comes back by itself."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlops_assets.alerting import Severity
from mlops_assets.production.errors import ProductionError
from mlops_assets.production.incidents import IncidentKind, incidents
from mlops_assets.production.rollback import (
    ACTOR,
    Comparison,
    RollbackDecision,
    RollbackSituation,
    ServiceRecord,
    judge_rollback,
    measure_rollback,
    roll_back,
    roll_back_by_hand,
)
from mlops_assets.production.rollback.comparing import compare, look_level
from mlops_assets.production.rollback.history import barred_versions, last_served
from mlops_assets.production.rollback.recording import (
    decision_named,
    newest_decision,
    record_decision,
)
from mlops_assets.registry import Event, LedgerEntry, ledger
from mlops_assets.registry.tracking import local_folder
from mlops_assets.training.family_monitoring import RollbackPolicy
from mlops_assets.training.metrics import MetricError
from mlops_assets.training.tasks import task_named
from tests.production.conftest import GOOD, MARCH, OTHER, WEAK, House, noon_after

NOW = datetime(2013, 3, 8, 12, tzinfo=UTC)
POLICY = RollbackPolicy(metric_drop=0.02, error_rate=0.05, p99_seconds=0.5, min_requests=50)
WORSE = Comparison("roc_auc", 0.6, 0.75, -0.15, -0.1, 0.99, 5_000, 7, 3)
BAD = RollbackSituation("late", NOW, champion=3, target=2, comparison=WORSE, labelled=5_000)


# The decision -------------------------------------------------------------------------------------


def test_a_model_that_is_worse_beyond_the_limit_is_taken_back_and_the_numbers_are_said() -> None:
    decision = judge_rollback(BAD, POLICY)

    assert decision.roll_back
    assert (decision.champion, decision.target) == (3, 2)
    [breach] = decision.breaches
    assert "roc_auc is 0.6000" in breach
    assert "0.7500 on the same 5,000 rows of 7 days" in breach
    assert decision.summary.startswith("late: roll back to late/2: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"comparison": replace(WORSE, at_most=-0.01)}, "not worse by more than 0.02"),
        ({"labelled": 499}, "499 of its predictions have a label"),
        ({"comparison": None, "no_comparison": "3 days are too few"}, "3 days are too few"),
        ({"target": None, "barred": (2,)}, "late/2 came out of service by a rollback"),
        ({"last_rollback": NOW - timedelta(hours=23)}, "23.0 hours ago, within the cooldown of 24"),
    ],
)
def test_what_speaks_against_it_is_said(changes: dict[str, object], said: str) -> None:
    decision = judge_rollback(replace(BAD, **changes), POLICY)  # type: ignore[arg-type] # by name

    assert not decision.roll_back
    assert said in "; ".join(decision.reasons_against)


def test_without_a_declared_limit_nothing_is_taken_back() -> None:
    decision = judge_rollback(BAD, RollbackPolicy())

    assert not decision.roll_back
    assert "no limit is declared" in decision.summary


def test_errors_and_latency_take_a_model_back_where_the_one_before_was_better() -> None:
    calm = replace(BAD, comparison=None, no_comparison="no labels")
    failing = ServiceRecord(requests=900, slow=2, predictions=1_000, failed=100)
    slow = ServiceRecord(requests=1_000, slow=60, predictions=1_000)

    for record, said in (
        (failing, "100 of 1,000 predictions failed"),
        (slow, "60 of 1,000 requests took longer than 0.5 s"),
    ):
        alone = judge_rollback(replace(calm, service=record), POLICY)
        as_before = judge_rollback(replace(calm, service=record, service_before=record), POLICY)

        assert alone.roll_back
        assert said in alone.breaches[0]
        assert not as_before.roll_back
        assert "it would not help" in "; ".join(as_before.reasons_against)


def test_few_requests_and_shares_within_chance_prove_nothing() -> None:
    calm = replace(BAD, comparison=None, no_comparison="no labels")

    few = judge_rollback(
        replace(calm, service=ServiceRecord(requests=49, slow=49, predictions=49)), POLICY
    )
    by_chance = judge_rollback(
        replace(calm, service=ServiceRecord(requests=100, slow=0, predictions=100, failed=7)),
        POLICY,
    )

    assert not few.roll_back
    assert not by_chance.roll_back
    assert "beyond chance" in "; ".join(by_chance.reasons_against)


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ProductionError, match="has no time zone"):
        judge_rollback(replace(BAD, at=datetime(2013, 3, 8, 12)), POLICY)  # noqa: DTZ001 - the point


# The comparison -----------------------------------------------------------------------------------


def test_all_looks_together_keep_the_confidence() -> None:
    spent = sum(1 - look_level(look, 0.95) for look in range(1, 10_000))

    assert 0.0499 < spent < 0.05


def test_equal_models_are_seldom_taken_back_however_often_one_looks() -> None:
    """A hundred equally good pairs, looked at every day for four weeks."""
    random, task = np.random.default_rng(3), task_named("binary")
    per_day, alarms = 60, 0
    for _ in range(100):
        days = np.repeat(np.arange(28), per_day)
        truth = random.normal(size=len(days)) + random.normal(size=28)[days]
        label = truth + random.normal(size=len(days)) > 0
        one, other = (1 / (1 + np.exp(-truth - random.normal(size=len(days)))) for _ in range(2))
        found = (
            compare(
                "roc_auc", task, label[seen], one[seen], other[seen], days[seen],
                looks=until - 4, confidence=0.95,
            )
            for until in range(5, 29)
            for seen in [days < until]
        )  # fmt: skip
        alarms += any(each.at_most < 0 for each in found)

    assert alarms <= 0.05 * 100


def test_too_few_days_are_no_comparison() -> None:
    days = np.repeat(np.arange(4), 10)
    label = np.arange(40) % 2

    with pytest.raises(MetricError, match="4 days are too few"):
        compare(
            "roc_auc", task_named("binary"), label, label * 0.5, label * 0.6, days,
            looks=1, confidence=0.95,
        )  # fmt: skip


# Who may come back --------------------------------------------------------------------------------


def entry(event: Event, before: int | None, after: int | None) -> LedgerEntry:
    return LedgerEntry("late", event, "ada", "a test", before, after)


def test_who_came_out_by_a_rollback_comes_back_by_a_promotion_alone() -> None:
    entries = [
        entry(Event.promoted, None, 1),
        entry(Event.promoted, 1, 2),
        entry(Event.promoted, 2, 3),
        entry(Event.refused, 3, 3),
        entry(Event.rolled_back, 3, 2),
    ]

    assert barred_versions(entries) == (3,)
    assert list(last_served(entries)) == [1]
    again = [*entries, entry(Event.promoted, 2, 3)]
    assert barred_versions(again) == ()
    assert list(last_served(again)) == [2, 1]


@pytest.mark.parametrize("seed", range(20))
def test_there_is_no_flapping_whatever_the_gate_promotes(seed: int) -> None:
    """Every champion is bad; between two promotions each version is rolled back at most once."""
    random, entries, champion = np.random.default_rng(seed), [entry(Event.promoted, None, 1)], 1
    promoted = itertools.count(2)
    left: list[int] = []
    for _ in range(200):
        target = next(last_served(entries), None)
        if target is not None:
            assert champion not in left
            left.append(champion)
            entries.append(entry(Event.rolled_back, champion, target))
            champion = target
        elif random.random() < 0.5:
            version = next(promoted)
            entries.append(entry(Event.promoted, champion, version))
            champion = version

    assert len(left) == len(set(left))


# In a real deployment -----------------------------------------------------------------------------


def decide(house: House, days: int) -> RollbackDecision:
    """Measure and judge after so many days of March."""
    day = MARCH + timedelta(days=days - 1)
    situation = measure_rollback(
        house.lake, house.registry, house.family, house.views, day, noon_after(day)
    )
    return judge_rollback(situation, house.family.rollback)


def test_a_bad_model_is_rolled_back_by_its_labels_and_not_a_second_time(house: House) -> None:
    house.serve(GOOD)
    house.serve(WEAK)
    house.answer(MARCH, 14)

    early, decision = decide(house, 4), decide(house, 6)
    incident = roll_back(house.lake, house.registry, house.family, decision)
    roll_back(house.lake, house.registry, house.family, decision)  # as by a run that is repeated

    assert not early.roll_back
    assert "4 days are too few" in early.summary
    assert house.champion() == GOOD
    assert decision.comparison is not None
    assert decision.comparison.days == 6
    assert decision.comparison.gain < -0.05
    assert [
        (each.event, each.from_version, each.to_version, each.actor)
        for each in ledger.read(house.lake, house.family.name)
    ][-1] == (Event.rolled_back, WEAK, GOOD, ACTOR)
    assert len(ledger.read(house.lake, house.family.name)) == 3
    assert incidents(house.lake) == (incident,)
    assert incident.kind is IncidentKind.model_rollback
    assert incident.at == noon_after(MARCH + timedelta(days=5))
    assert incident.evidence["target"] == GOOD
    with pytest.raises(ProductionError, match="nothing is rolled back"):
        roll_back(house.lake, house.registry, house.family, early)


def test_who_came_in_by_a_rollback_is_not_followed_by_who_went_out(house: House) -> None:
    """The restored version is judged bad itself: the gate's victim must not come back."""
    house.serve(OTHER)
    house.serve(WEAK)
    house.serve(GOOD)
    roll_back_by_hand(house.lake, house.registry, house.family.name, actor="ada", reason="a hunch")
    house.answer(MARCH, 7)

    decision = decide(house, 7)
    roll_back(house.lake, house.registry, house.family, decision)

    assert decision.target == OTHER
    assert house.champion() == OTHER
    after = decide(house, 9)
    assert after.target is None
    assert not after.roll_back
    assert [each.severity for each in incidents(house.lake)] == [Severity.error, Severity.warning]


def test_a_good_model_stays(house: House) -> None:
    house.serve(OTHER)
    house.serve(GOOD)
    house.answer(MARCH, 20)

    decision = decide(house, 20)

    assert not decision.roll_back
    assert decision.comparison is not None
    assert decision.comparison.days == house.family.rollback.window_days
    stale = replace(decision, roll_back=True, champion=WEAK, target=OTHER)
    with pytest.raises(ProductionError, match="decide again"):
        roll_back(house.lake, house.registry, house.family, stale)
    assert house.champion() == GOOD


def test_a_target_that_does_not_load_is_an_incident_and_nobody_is_switched(house: House) -> None:
    house.serve(OTHER)
    house.serve(WEAK)
    house.answer(MARCH, 6)
    decision = decide(house, 6)
    broken = house.registry.client.get_logged_model(house.version(OTHER).model_id)
    folder = local_folder(broken.artifact_location, house.home)
    kept = folder.rename(folder.with_name("kept"))
    try:
        incident = roll_back(house.lake, house.registry, house.family, decision)
    finally:
        kept.rename(folder)

    assert house.champion() == WEAK
    assert incident.kind is IncidentKind.rollback_failed
    assert incident.severity is Severity.critical
    assert "could not take its place" in incident.what


def test_a_decision_is_kept_once_and_found_by_its_name(house: House) -> None:
    decision = judge_rollback(BAD, POLICY)
    when = NOW + timedelta(hours=1)

    assert record_decision(house.lake, decision, MARCH, "run", when)
    assert not record_decision(house.lake, decision, MARCH, "run", when)

    kept = newest_decision(house.lake, "late")
    assert kept is not None
    assert kept.decision == decision
    assert decision_named(house.lake, kept.name) == decision
    assert newest_decision(house.lake, "other") is None
    with pytest.raises(ProductionError, match="there is no rollback decision"):
        decision_named(house.lake, "late:2013-01-01:other")
