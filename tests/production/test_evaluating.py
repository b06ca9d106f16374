"""Evaluating a day: everything is found and written once, and what is missing is a state."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake, TableName
from mlops_assets.monitoring.drift import COMPARED, NO_ROWS
from mlops_assets.monitoring.performance import Kind
from mlops_assets.monitoring.profile import Subject
from mlops_assets.monitoring.tables import (
    DECISIONS,
    DRIFT,
    LABELS,
    PERFORMANCE,
    REFERENCES,
    SERVICE,
)
from mlops_assets.production.decisions import NewestDecisions
from mlops_assets.production.errors import NoChampionError
from mlops_assets.production.evaluating import EvaluatedDay, evaluate_day, over
from mlops_assets.production.trends import drift_trend, performance_trend
from mlops_assets.registry import Registry
from mlops_assets.serving.batch_scoring import predictions_table, score_days
from mlops_assets.settings import load_settings
from mlops_assets.training import ModelFamily, declare_family
from mlops_assets.training.training_set import build_training_set
from tests.registry.conftest import (
    DECLARATION,
    PER_DAY,
    judge_version,
    make_lake,
    make_version,
    make_views,
)

FLIGHTS, DELAYS = TableName("features", "flights"), TableName("features", "delays")
DAY = date(2013, 3, 25)
FAMILY = declare_family(
    DECLARATION
    | {
        "slices": ["carrier", "month"],
        "candidates": [{"algorithm": "linear"}],
        "monitoring": {"windows": [2, 7], "drift": {"min_rows": 20}, "label_due": "P1D"},
        "retraining": {"min_new_rows": 0, "drifted_windows": 2, "max_age": "P40D"},
    }
)


@pytest.fixture(scope="module")
def views() -> FeatureRegistry:
    return make_views()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, views: FeatureRegistry) -> Registry:
    """A champion whose predictions of March are scored."""
    home = tmp_path_factory.mktemp("home")
    lake = make_lake(home)
    registry = Registry.from_settings(load_settings(home=home), lake)
    made = build_training_set(lake, FAMILY, views)
    judge_version(registry, FAMILY, make_version(registry, FAMILY, made, "linear"))
    champion = registry.find("late_flights@champion")
    days = (date(2013, 3, 1), date(2013, 4, 3))
    score_days(lake, FAMILY, views, registry.load(champion), champion, days)
    return registry


@pytest.fixture
def evaluate(world: Registry, views: FeatureRegistry) -> Callable[..., EvaluatedDay]:
    def of(
        day: date, name: str = "a", family: ModelFamily = FAMILY, **also: object
    ) -> EvaluatedDay:
        return evaluate_day(world.lake, world, family, views, day, evaluation=name, **also)

    return of


def rows(lake: Lake, table: TableName) -> int:
    return lake.describe(table).rows if lake.exists(table) else 0


def test_a_day_is_compared_with_what_the_champion_learnt(
    evaluate: Callable[..., EvaluatedDay],
) -> None:
    found = evaluate(DAY)

    assert found.model == "late_flights/1"
    assert {(one.window_days, one.report.subject) for one in found.drift} == {
        (days, subject) for days in (2, 7) for subject in Subject
    }
    features = found.drift_of(Subject.feature, 7)
    assert features.report.state == COMPARED
    assert features.report.rows == 7 * PER_DAY
    assert {one.column for one in features.report.columns} == {"recent_delay", "wind", "carrier"}
    assert features.report.drifted == ()
    assert features.reconstruction is not None
    assert found.realised is not None
    assert found.realised.metric == "roc_auc"
    assert found.realised.now.value is not None
    assert found.estimated is not None
    assert found.no_estimate == ""
    assert found.service is None  # nobody was asked over HTTP


def test_labels_count_once_they_are_due_and_no_later_knowledge_does(
    evaluate: Callable[..., EvaluatedDay],
) -> None:
    found = evaluate(DAY).performance

    assert found.as_of == over(DAY)
    assert found.mature == DAY - timedelta(days=1)
    days = {(one.kind, one.day) for one in found.performances}
    assert days == {(Kind.realised, found.mature), (Kind.estimated, DAY)}
    assert found.labels[7].labelled == 7 * PER_DAY
    later = evaluate(DAY, "later", as_of=datetime(2014, 1, 1, tzinfo=UTC)).performance
    assert later.mature == DAY
    earlier = evaluate(DAY, "earlier", as_of=datetime(2013, 3, 1, tzinfo=UTC)).performance
    assert earlier.labels[7].labelled < 7 * PER_DAY


def test_the_same_evaluation_is_written_once(
    world: Registry, evaluate: Callable[..., EvaluatedDay]
) -> None:
    tables = (DRIFT, PERFORMANCE, LABELS, DECISIONS, REFERENCES)
    evaluate(DAY, "once")
    before = [rows(world.lake, table) for table in tables]
    again = evaluate(DAY, "once")
    other = evaluate(DAY, "twice")

    assert all(before)
    after = [rows(world.lake, table) for table in tables]
    assert after[-1] == before[-1]  # references are made once for a version
    assert after[-2] == before[-2] + 1  # by the other name
    assert again.decision.reasons_for == other.decision.reasons_for
    assert rows(world.lake, SERVICE) == 0


def test_a_day_without_rows_is_a_state_and_no_error(evaluate: Callable[..., EvaluatedDay]) -> None:
    found = evaluate(date(2013, 6, 1))

    assert {one.report.state for one in found.drift} == {NO_ROWS}
    assert all(one.found.value is None for one in found.performance.performances)
    assert not found.decision.retrain


def test_drift_that_lasts_asks_for_a_training(
    world: Registry, views: FeatureRegistry, evaluate: Callable[..., EvaluatedDay]
) -> None:
    lake, table = world.lake, predictions_table(FAMILY.name)
    before = lake.version(table)
    moved = lake.read(table).read_all().to_pandas()
    moved.loc[moved["day"] >= DAY, ["wind", "recent_delay"]] += 3
    lake.overwrite(table, pa.Table.from_pandas(moved, schema=lake.schema(table)))
    try:
        first, second = (evaluate(DAY + timedelta(days=n), "moved") for n in (1, 2))
    finally:
        lake.restore(table, before)

    assert set(first.drift_of(Subject.feature).report.drifted) == {"wind", "recent_delay"}
    assert second.decision.retrain
    assert "2 of 3 features drifted" in second.decision.reasons_for[0]
    kept = NewestDecisions(lake).of(FAMILY.name)
    assert kept is not None
    trend = drift_trend(lake, FAMILY, Subject.feature, 2, DAY + timedelta(days=2), 5)
    assert max(ratio or 0 for ratio in trend["wind"].values()) > 1


def test_what_was_found_can_be_plotted(
    world: Registry, evaluate: Callable[..., EvaluatedDay]
) -> None:
    for number in range(3):
        evaluate(date(2013, 3, 10) + timedelta(days=number), "plot")

    trend = performance_trend(world.lake, FAMILY, "roc_auc", 7, date(2013, 3, 12), 10)

    assert set(trend.estimated) == {date(2013, 3, day) for day in (10, 11, 12)}
    assert {date(2013, 3, day) for day in (9, 10, 11)} <= set(trend.realised)
    assert all(one.value is not None for one in trend.realised.values())


def test_the_cooldown_and_a_training_in_progress_hold_it_back(
    evaluate: Callable[..., EvaluatedDay],
) -> None:
    at = over(DAY)
    stale = {"at": at, "trained_at": at - timedelta(days=50)}

    assert evaluate(DAY, "stale", **stale).decision.retrain
    waits = evaluate(DAY, "waits", **stale, last_started=at - timedelta(days=1)).decision
    assert not waits.retrain
    assert "cooldown" in waits.reasons_against[0]
    assert not evaluate(DAY, "busy", **stale, in_progress=True).decision.retrain


def test_without_a_champion_it_is_said_what_to_do(
    world: Registry, evaluate: Callable[..., EvaluatedDay]
) -> None:
    other = declare_family(DECLARATION | {"name": "untrained"})

    with pytest.raises(NoChampionError, match="Train it first, with the job train_untrained"):
        evaluate(DAY, family=other)
