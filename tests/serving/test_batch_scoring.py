"""Scoring whole days: the answers are the model's, a day is replaced, and nothing is made up."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake, TableName, TableVersion
from mlops_assets.registry import ModelVersion
from mlops_assets.serving.batch_scoring import (
    ScoredDays,
    ScoringError,
    predictions_table,
    score_days,
)
from mlops_assets.training import ModelFamily, declare_family
from mlops_assets.training.dataset import load_parts
from mlops_assets.training.estimators import Estimator, FitOptions, estimator_class
from mlops_assets.training.training_set import build_training_set
from tests.registry.conftest import DAYS, DECLARATION, PER_DAY, make_lake, make_views

FAMILY = declare_family(DECLARATION)
TABLE = predictions_table(FAMILY.name)
MARCH = (date(2013, 3, 1), date(2013, 4, 1))
DAY = (date(2013, 3, 5), date(2013, 3, 6))


@pytest.fixture(scope="module")
def views() -> FeatureRegistry:
    return make_views()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return make_lake(tmp_path)


@pytest.fixture
def training_set(lake: Lake, views: FeatureRegistry) -> TableVersion:
    return build_training_set(lake, FAMILY, views).version


@pytest.fixture
def estimator(lake: Lake, training_set: TableVersion) -> Estimator:
    parts = load_parts(lake, training_set, FAMILY)
    return estimator_class("catboost").fit(
        parts["train"], parts["validation"], {"iterations": 20, "depth": 3}, FitOptions(0, 1)
    )


def version(number: int, training_set: TableVersion) -> ModelVersion:
    return ModelVersion(
        family=FAMILY.name,
        version=number,
        aliases=(),
        created_at=datetime(2013, 3, 1, tzinfo=UTC),
        candidate="catboost",
        algorithm="catboost",
        run_id="run",
        model_id="model",
        training_set=training_set,
        inputs=(),
        first_day=date(2013, 1, 1),
        last_day=date(2013, 2, 14),
        threshold=0.5,
        primary_metric="roc_auc",
        metrics={},
    )


def scored(
    lake: Lake,
    views: FeatureRegistry,
    estimator: Estimator,
    training_set: TableVersion,
    days: tuple[date, date],
    *,
    number: int = 1,
    family: ModelFamily = FAMILY,
) -> ScoredDays:
    return score_days(lake, family, views, estimator, version(number, training_set), days)


def rows(lake: Lake, sql: str) -> list[tuple[object, ...]]:
    with lake.connect(tables=[TABLE]) as con:
        return con.sql(sql).fetchall()


def test_the_answers_are_those_of_the_model_on_the_training_sets_features(
    lake: Lake, views: FeatureRegistry, estimator: Estimator, training_set: TableVersion
) -> None:
    done = scored(lake, views, estimator, training_set, MARCH)

    test = load_parts(lake, training_set, FAMILY)["test"]
    wanted = dict(zip(test.context["flight_id"], estimator.predict(test.features), strict=True))
    given = dict(rows(lake, f"SELECT flight_id, answer FROM {TABLE.sql}"))
    assert done.rows == len(given) == 31 * PER_DAY
    both = sorted(set(given) & set(wanted))
    assert len(both) > 30 * PER_DAY - 1
    np.testing.assert_array_equal([given[i] for i in both], [wanted[i] for i in both])


def test_a_row_says_by_whom_from_what_and_for_when(
    lake: Lake, views: FeatureRegistry, estimator: Estimator, training_set: TableVersion
) -> None:
    scored(lake, views, estimator, training_set, DAY)

    [found] = rows(
        lake,
        f"""SELECT day, as_of, family, version, role, caller, source, feature_versions, carrier
            FROM {TABLE.sql} ORDER BY as_of LIMIT 1""",
    )
    [(carrier,)] = rows(lake, f"SELECT carrier FROM {TABLE.sql} ORDER BY as_of LIMIT 1")
    assert found == (
        DAY[0],
        datetime(2013, 3, 5, 6, tzinfo=UTC),
        FAMILY.name,
        1,
        "champion",
        "batch",
        "offline",
        {"delays": lake.version(TableName("features", "delays"))},
        carrier,
    )


def test_a_day_that_is_scored_again_is_replaced_and_its_predictions_keep_their_names(
    lake: Lake, views: FeatureRegistry, estimator: Estimator, training_set: TableVersion
) -> None:
    scored(lake, views, estimator, training_set, MARCH)
    names = f"SELECT prediction_id FROM {TABLE.sql} ORDER BY 1"
    before = rows(lake, names)

    scored(lake, views, estimator, training_set, DAY)

    assert rows(lake, names) == before
    assert len(set(before)) == len(before)


def test_another_version_names_its_predictions_otherwise(
    lake: Lake, views: FeatureRegistry, estimator: Estimator, training_set: TableVersion
) -> None:
    scored(lake, views, estimator, training_set, DAY)
    first = set(rows(lake, f"SELECT prediction_id FROM {TABLE.sql}"))
    scored(lake, views, estimator, training_set, DAY, number=2)
    second = set(rows(lake, f"SELECT prediction_id FROM {TABLE.sql}"))

    assert len(first) == len(second) == PER_DAY
    assert not first & second


def test_a_day_without_rows_is_scored_as_empty(
    lake: Lake, views: FeatureRegistry, estimator: Estimator, training_set: TableVersion
) -> None:
    after = date(2013, 1, 1) + timedelta(days=DAYS + 5)

    done = scored(lake, views, estimator, training_set, (after, after + timedelta(days=1)))

    assert done.rows == 0
    assert rows(lake, f"SELECT count(*) FROM {TABLE.sql}") == [(0,)]


def test_what_became_known_later_does_not_change_a_past_day(
    lake: Lake, views: FeatureRegistry, estimator: Estimator, training_set: TableVersion
) -> None:
    """A correction that came in after the prediction time is not seen, now or then."""
    scored(lake, views, estimator, training_set, DAY)
    answers = f"SELECT flight_id, answer FROM {TABLE.sql} ORDER BY 1"
    before = rows(lake, answers)
    table = TableName("features", "delays")
    with lake.connect(tables=[table]) as con:
        late = con.sql(
            f"""SELECT * REPLACE (recent_delay + 9 AS recent_delay,
                                  available_at + INTERVAL 1 MINUTE AS available_at)
                FROM {table.sql}"""
        ).to_arrow_table()
    lake.append(table, late.cast(lake.schema(table)))

    scored(lake, views, estimator, training_set, DAY)

    assert rows(lake, answers) == before


def test_an_entity_that_stands_twice_in_the_spine_is_refused(
    lake: Lake, views: FeatureRegistry, estimator: Estimator, training_set: TableVersion
) -> None:
    table = TableName("features", "flights")
    with lake.connect(tables=[table]) as con:
        again = con.sql(
            f"SELECT * FROM {table.sql} WHERE CAST(prediction_time AS DATE) = '2013-03-05' LIMIT 1"
        ).to_arrow_table()
    lake.append(table, again.cast(lake.schema(table)))

    with pytest.raises(ScoringError, match=r"entity .*flight_id.* 2 times"):
        scored(lake, views, estimator, training_set, DAY)
    assert not lake.exists(TABLE)


def test_a_column_that_the_spine_lacks_is_named(
    lake: Lake, views: FeatureRegistry, estimator: Estimator, training_set: TableVersion
) -> None:
    family = declare_family(
        {**DECLARATION, "spine": {**DECLARATION["spine"], "keep": ["gate_number"]}}
    )

    with pytest.raises(ScoringError, match="has no column gate_number"):
        scored(lake, views, estimator, training_set, DAY, family=family)
