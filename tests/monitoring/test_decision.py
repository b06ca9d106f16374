"""The retraining decision: every reason alone, what holds it back, and that it is kept once."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from mlops_assets.declaration import find_problems
from mlops_assets.lake import Lake
from mlops_assets.monitoring import MonitoringError
from mlops_assets.monitoring.decision import (
    Champion,
    DriftEvidence,
    MetricEvidence,
    Situation,
    decide,
)
from mlops_assets.monitoring.drift import ColumnDrift, DriftReport, Statistic, WindowDrift
from mlops_assets.monitoring.performance import Kind, Performance, PerformanceReport
from mlops_assets.monitoring.pictures import (
    Mark,
    drift_map,
    latency_over_time,
    performance_over_time,
)
from mlops_assets.monitoring.profile import Subject
from mlops_assets.monitoring.service_health import ServiceHealth
from mlops_assets.monitoring.tables import (
    DECISIONS,
    DRIFT,
    LABELS,
    PERFORMANCE,
    SERVICE,
    MonitoringTables,
    keep_reference,
    kept_references,
    last_drift,
)
from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.family_monitoring import MonitoringPolicy, RetrainingPolicy
from mlops_assets.training.pictures import png, svg

NOW = datetime(2013, 10, 1, tzinfo=UTC)
DAY = date(2013, 9, 30)
POLICY = RetrainingPolicy(max_data_age=timedelta(days=20), max_cost=timedelta(hours=1))
CALM = Situation(
    family="late",
    at=NOW,
    champion=Champion(3, NOW - timedelta(days=10), NOW - timedelta(days=12), timedelta(minutes=5)),
    newest_label=NOW,
    new_rows=5000,
    drift=(DriftEvidence(10, ("a",)),) * 3,
    realised=MetricEvidence("roc_auc", True, 0.78, Estimate(0.77, 0.75, 0.79)),
)
MUCH = DriftEvidence(10, ("a", "b"))


def test_with_no_reason_nothing_is_trained() -> None:
    found = decide(CALM, POLICY)
    assert not found.retrain
    assert found.reasons_for == found.reasons_against == ()
    assert found.summary == "late: do not retrain: nothing asks for it"
    assert (found.age_days, found.data_age_days, found.drifted_share) == (10, 12, 0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"champion": None}, "there is no champion"),
        ({"at": NOW + timedelta(days=21)}, "31.0 days old, more than 30"),
        ({"newest_label": NOW + timedelta(days=9)}, "21.0 days behind the labels"),
        ({"drift": (MUCH,) * 3}, "2 of 10 features drifted, enough in 3 evaluations"),
        ({"drift": (DriftEvidence(10, (), True),) * 3}, "so did the predictions"),
        (
            {"realised": MetricEvidence("roc_auc", True, 0.78, Estimate(0.7, 0.68, 0.72))},
            "realised roc_auc is 0.7000",
        ),
        (
            {"realised": MetricEvidence("log_loss", False, 0.3, Estimate(0.5, 0.4, 0.6))},
            "realised log_loss is 0.5000",
        ),
    ],
)
def test_each_reason_alone_is_enough(change: dict[str, object], said: str) -> None:
    found = decide(replace(CALM, **change), POLICY)
    assert found.retrain
    assert len(found.reasons_for) == 1
    assert said in found.reasons_for[0]


@pytest.mark.parametrize(
    "change",
    [
        {"drift": (DriftEvidence(10, ()), MUCH, MUCH)},  # not long enough
        {"drift": (MUCH, MUCH)},
        {"drift": ()},
        {"drift": (DriftEvidence(0, ()),) * 3},  # nothing was judged
        # 0.03 worse than 0.78, but by chance perhaps not even 0.02
        {"realised": MetricEvidence("roc_auc", True, 0.78, Estimate(0.75, 0.73, 0.77))},
        {"realised": MetricEvidence("roc_auc", True, 0.78, Estimate(0.6, reason="one day"))},
        {"realised": MetricEvidence("roc_auc", True, 0.78, Estimate(None, reason="no rows"))},
        {"estimated": MetricEvidence("roc_auc", True, 0.78, Estimate(0.5, 0.4, 0.6))},
    ],
)
def test_what_may_be_chance_is_no_reason(change: dict[str, object]) -> None:
    assert not decide(replace(CALM, **change), POLICY).retrain


def test_estimates_count_where_declared() -> None:
    policy = POLICY.model_copy(update={"estimated_drop": 0.05})
    fallen = MetricEvidence("roc_auc", True, 0.78, Estimate(0.5, 0.4, 0.6))
    assert decide(replace(CALM, estimated=fallen), policy).retrain


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"in_progress": True}, "in progress"),
        ({"last_started": NOW - timedelta(days=6)}, "within the cooldown of 7"),
        ({"new_rows": 999}, "999 labelled rows"),
    ],
)
def test_what_holds_a_training_back_is_said(change: dict[str, object], said: str) -> None:
    found = decide(replace(CALM, drift=(MUCH,) * 3, **change), POLICY)
    assert not found.retrain
    assert found.reasons_for
    assert said in found.reasons_against[0]


def test_age_overrules_too_few_rows_but_not_the_cooldown() -> None:
    old = replace(CALM, at=NOW + timedelta(days=21), new_rows=0)
    assert decide(old, POLICY).retrain
    waiting = replace(old, last_started=old.at - timedelta(days=1))
    assert not decide(waiting, POLICY).retrain
    assert not decide(replace(old, in_progress=True), POLICY).retrain


def test_a_training_that_costs_much_is_not_made_for_drift_alone() -> None:
    dear = replace(CALM.champion, training_took=timedelta(hours=2))
    found = decide(replace(CALM, champion=dear, drift=(MUCH,) * 3), POLICY)
    assert not found.retrain
    assert "took 2:00:00" in found.reasons_against[0]
    old = replace(CALM, at=NOW + timedelta(days=21), champion=dear, drift=(MUCH,) * 3)
    assert decide(old, POLICY).retrain


def test_instants_without_a_zone_are_refused() -> None:
    with pytest.raises(MonitoringError, match=r"last_started .* has no time zone"):
        decide(replace(CALM, last_started=datetime(2013, 9, 1)), POLICY)  # noqa: DTZ001 - tested


def test_policies_refuse_what_cannot_be() -> None:
    [problem] = find_problems(RetrainingPolicy, {"max_age": "P5D"})
    assert "must be shorter than max_age" in str(problem)
    [problem] = find_problems(MonitoringPolicy, {"windows": [7, 1]})
    assert "rising" in str(problem)
    [problem] = find_problems(RetrainingPolicy, {"drifted_feature": 0.5})
    assert "drifted_features" in str(problem)


def report(column: str = "x", *, drifted: bool = True) -> DriftReport:
    big = Statistic(0.5 if drifted else 0.0, 0.1, 0.2)
    one = ColumnDrift(
        column, Subject.feature, big, big, None, None, Statistic(0, 0, 0.1), 0.0, 0.0, None, (),
        ("it did",) if drifted else (),
    )  # fmt: skip
    return DriftReport(Subject.feature, "train", 500, 1, "compared", (one,))


def test_an_evaluation_is_written_once(lake: Lake) -> None:
    tables = MonitoringTables(lake, "late", DAY, "run-1", NOW)
    performance = PerformanceReport(
        DAY, NOW, DAY, (3,), {},
        (Performance(Kind.realised, DAY, 7, "roc_auc", None, None, 9, Estimate(None)),),
    )  # fmt: skip
    health = ServiceHealth(NOW, NOW, 1, 2, 0.1, 0.2, {0.5: 0.01}, 0.02, 0.0, {"log_gap": 1}, 3)
    drift = (WindowDrift(1, report(), Statistic(0.3, 0.1, 0.2)), WindowDrift(7, report()))
    for first in (True, False):
        assert tables.write_drift(3, drift) is first
        assert tables.write_performance(performance) is first
        assert tables.write_service(health) is first
        assert tables.write_decision(decide(CALM, POLICY)) is first
    rows = {table: lake.describe(table).rows for table in (DRIFT, PERFORMANCE, LABELS, SERVICE)}
    assert rows == {DRIFT: 4, PERFORMANCE: 1, LABELS: 0, SERVICE: 1}
    [decided] = lake.read(DECISIONS).read_all().to_pylist()
    assert (decided["retrain"], decided["champion"], decided["age_days"]) == (False, 3, 10)
    described = lake.schema(DECISIONS)
    assert all(field.metadata[b"comment"] for field in described)
    with pytest.raises(MonitoringError, match="needs a name"):
        MonitoringTables(lake, "late", DAY, "", NOW)


def test_the_newest_evaluation_of_a_day_counts(lake: Lake) -> None:
    assert last_drift(lake, "late", 3, 1, DAY, 3) == ()
    for back, drifted in ((2, True), (1, False), (0, True)):
        day = DAY - timedelta(days=back)
        write_drift(lake, day, "a", NOW, report(drifted=drifted))
    later = NOW + timedelta(hours=1)
    write_drift(lake, DAY, "b", later, report(drifted=False))
    empty = DriftReport(Subject.feature, "train", 0, 0, "no rows", ())
    tomorrow = DAY + timedelta(days=1)
    write_drift(lake, tomorrow, "a", NOW, empty)
    assert last_drift(lake, "late", 3, 1, tomorrow, 2) == (
        (DAY - timedelta(days=1), 1, (), False),
        (DAY, 1, (), False),
    )
    assert last_drift(lake, "late", 4, 1, tomorrow, 2) == ()  # another version learnt otherwise
    assert last_drift(lake, "late", 3, 1, tomorrow, 9)[0] == (
        DAY - timedelta(days=2), 1, ("x",), False,
    )  # fmt: skip


def write_drift(lake: Lake, day: date, name: str, at: datetime, found: DriftReport) -> None:
    MonitoringTables(lake, "late", day, name, at).write_drift(3, [WindowDrift(1, found)])


def test_a_reference_stays_what_it_was(lake: Lake) -> None:
    assert kept_references(lake, "late", 3) == {}
    assert keep_reference(lake, "late", 3, "feature", "{}", NOW)
    assert not keep_reference(lake, "late", 3, "feature", '{"other": 1}', NOW)
    assert kept_references(lake, "late", 3) == {"feature": "{}"}
    assert kept_references(lake, "late", 4) == {}


def test_pictures_are_drawn_with_and_without_anything_to_show() -> None:
    days = [DAY - timedelta(days=back) for back in range(20)]
    known = {day: Estimate(0.7, 0.6, 0.8) for day in days[5:]}
    guess = {day: Estimate(0.72, 0.65, 0.79) for day in days} | {days[3]: Estimate(None)}
    text = svg(
        performance_over_time(
            known, guess, "ROC AUC", reference=0.78, marks=[Mark(days[4], "retrained")]
        )
    )
    assert "realised" in text
    assert "retrained" in text
    shown = drift_map({"wind": {day: 0.2 * i for i, day in enumerate(days)}, "b": {days[0]: None}})
    assert "wind" in svg(shown)
    assert "fill: var(--yes)" in svg(shown)  # the page's colour, not one between two of them
    assert "p95" in svg(latency_over_time({days[0]: {0.5: 0.01, 0.95: 0.02}, days[1]: {}}))
    for empty in (
        performance_over_time({}, {}, "ROC AUC"), drift_map({}), latency_over_time({}),
    ):  # fmt: skip
        assert "nothing to show yet" in svg(empty)
    assert png(shown).startswith(b"\x89PNG")
