"""A training set holds only what could be known, in parts that do not tell on each other."""

from collections.abc import Callable
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake, TableName
from mlops_assets.training import ModelFamily
from mlops_assets.training.training_set import (
    TrainingSet,
    build_training_set,
    published_training_set,
)
from mlops_assets.training.training_set_relations import TrainingSetError

SPINE, OUTCOMES, VIEW = (
    TableName("features", "spine"),
    TableName("marts", "outcomes"),
    TableName("features", "delays"),
)
SPINE_KEYS = {"table": "features/spine", "entity": ["flight_id"]}
SPLIT_KEYS = {"train_end": "2013-03-01", "validation_end": "2013-03-20", "test_end": "2013-05-01"}
Make = Callable[..., Lake]
Tables = dict[TableName, pa.Table]


def replaced(table: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)


def test_every_row_is_accounted_for(lake: Lake, training_set: TrainingSet, tables: Tables):
    audit = training_set.audit
    in_parts = sum(part.rows for part in audit.parts.values())
    assert audit.rows == in_parts + audit.purged
    assert audit.rows + audit.unlabelled + audit.outside == len(tables[SPINE])
    assert audit.unlabelled > 0
    assert list(audit.parts) == ["train", "validation", "test"]
    assert str(audit.parts["validation"].first_day) == "2013-03-01"
    assert lake.describe(training_set.version.table).rows == audit.rows
    assert audit.features == 4


def test_its_versions_say_what_it_was_made_of(lake: Lake, training_set: TrainingSet):
    assert [str(v) for v in training_set.inputs] == [
        "features/spine@0",
        "marts/outcomes@0",
        "features/delays@0",
    ]
    assert published_training_set(lake, training_set.version) == training_set
    with pytest.raises(TrainingSetError, match="does not say what it was made of"):
        published_training_set(lake, training_set.inputs[0])


def test_every_feature_carries_its_description(lake: Lake, training_set: TrainingSet):
    for field in lake.schema(training_set.version.table):
        if field.name in {"recent_delay", "wind", "label", "split", "prediction_time"}:
            assert field.metadata[b"comment"], field.name


def test_a_constant_feature_is_reported(training_set: TrainingSet):
    assert [(f.feature, f.problem) for f in training_set.audit.findings] == [
        ("constant", "always 1.0 in training")
    ]


def test_train_and_test_share_no_entity_and_no_label_was_known_too_late(
    lake: Lake, training_set: TrainingSet
):
    table = training_set.version.table
    with lake.connect(tables=[table]) as con:
        rows = con.sql(
            f"""SELECT split, count(*), count(DISTINCT flight_id), min(prediction_time),
                       max(label_available_at) FROM {table.sql} GROUP BY split"""
        ).fetchall()
        total = con.sql(f"SELECT count(DISTINCT flight_id) FROM {table.sql}").fetchall()[0][0]
    by_part = {row[0]: row for row in rows}
    assert sum(row[2] for row in rows) == total
    assert by_part["train"][4] <= by_part["validation"][3]
    assert by_part["validation"][4] <= by_part["test"][3]
    assert by_part["purged"][1] == training_set.audit.purged > 0


def test_a_label_known_only_months_later_keeps_its_row_out_of_training(
    make_lake: Make, tables: Tables, family: ModelFamily, views: FeatureRegistry
):
    known = pc.add(tables[OUTCOMES]["known_at"], pa.scalar(timedelta(days=10)))
    lake = make_lake(outcomes=replaced(tables[OUTCOMES], "known_at", known))
    audit = build_training_set(lake, family, views).audit
    assert str(audit.parts["train"].last_day) < "2013-02-20"
    assert audit.purged > 600


def test_a_version_can_be_built_again_as_it_was(
    make_lake: Make, tables: Tables, family: ModelFamily, views: FeatureRegistry
):
    lake = make_lake()
    first = build_training_set(lake, family, views)
    lake.overwrite(VIEW, tables[VIEW].slice(0, 100))
    versions = {version.table: version.version for version in first.inputs}
    again = build_training_set(lake, family, views, versions=versions)
    assert again.audit == first.audit
    one, two = (
        lake.read(s.version.table, at=s.version.version).read_all().sort_by("flight_id")
        for s in (first, again)
    )
    assert one.equals(two)


def test_a_value_that_became_known_after_the_prediction_is_not_used(
    make_lake: Make, tables: Tables, family: ModelFamily, views: FeatureRegistry
):
    late = pc.add(tables[VIEW]["available_at"], pa.scalar(timedelta(hours=2)))
    lake = make_lake(delays=replaced(tables[VIEW], "available_at", late))
    found = build_training_set(lake, family, views).audit.findings
    assert {(f.feature, f.problem) for f in found} == {
        (name, "null in every training row")
        for name in ("recent_delay", "wind", "carrier", "constant")
    }


def refused(message: str):  # a context manager of pytest's
    return pytest.raises(TrainingSetError, match=message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spine": {**SPINE_KEYS, "entity": ["flight"]}}, r"did you mean 'flight_id'"),
        (
            {"spine": {**SPINE_KEYS, "prediction_time": "flight_date"}},
            r"is DATE; it must be an instant",
        ),
        (
            {"label": {"table": "marts/outcomes", "column": "late_", "available_at": "known_at"}},
            r"label.column names 'late_', .* of marts/outcomes; did you mean 'late'",
        ),
        (
            {"split": {**SPLIT_KEYS, "validation_end": "2014-04-01", "test_end": "2015-01-01"}},
            r"test: is empty; the spine runs from 2013-01-01 to 2013-04-30",
        ),
        ({"features": [{"view": "delays"}] * 2}, r"'recent_delay' .* taken by view delays"),
        (
            {"split": {**SPLIT_KEYS, "column": "origin"}},
            r"split.column 'origin' is VARCHAR",
        ),
    ],
)  # fmt: skip
def test_a_declaration_that_does_not_fit_the_tables_is_refused(
    changes: dict[str, object],
    message: str,
    lake: Lake,
    declare: Callable[..., ModelFamily],
    views: FeatureRegistry,
):
    before = lake.version(TableName("features", "spine"))
    with refused(message):
        build_training_set(lake, declare(name="refused", **changes), views)
    assert not lake.exists(TableName("training", "refused"))
    assert lake.version(TableName("features", "spine")) == before


def test_faulty_rows_are_refused_with_their_reason(
    make_lake: Make, tables: Tables, family: ModelFamily, views: FeatureRegistry
):
    spine, outcomes, view = tables[SPINE], tables[OUTCOMES], tables[VIEW]
    one_class = replaced(outcomes, "late", pa.array([True] * len(outcomes)))
    with refused(r"train: all \d+ labels are 'yes'; a binary task needs both"):
        build_training_set(make_lake(outcomes=one_class), family, views)
    three = replaced(outcomes, "late", pa.array([0, 1, 2] * (len(outcomes) // 3)))
    with refused(r"label values \[2.0\] are neither 0 nor 1"):
        build_training_set(make_lake(outcomes=three), family, views)
    twice = pa.concat_tables([spine, spine.slice(5, 1)])
    with refused(r"features/spine has entity \{'flight_id': 5\} 2 times"):
        build_training_set(make_lake(spine=twice), family, views)
    twice = pa.concat_tables([outcomes, outcomes.slice(5, 1)])
    with refused(r"marts/outcomes has key \{'flight_id': 5\} 2 times"):
        build_training_set(make_lake(outcomes=twice), family, views)
    early = pc.subtract(outcomes["known_at"], pa.scalar(timedelta(hours=11)))
    with refused(r"labels are known before their prediction is made"):
        build_training_set(make_lake(outcomes=replaced(outcomes, "known_at", early)), family, views)
    wind = pa.array([float("inf"), 1.0, 2.0] * (len(view) // 3))
    with refused(r"feature 'wind' is infinite as a 32-bit number in 15\d\d rows"):
        build_training_set(make_lake(delays=replaced(view, "wind", wind)), family, views)


def test_labels_of_each_task_are_stored_and_summed_up(
    lake: Lake, training_sets: dict[str, TrainingSet]
):
    for task, stored in (("binary", "double"), ("multiclass", "string"), ("regression", "double")):
        made = training_sets[task]
        assert str(lake.schema(made.version.table).field("label").type) == stored
        label = lake.read(made.version.table, at=made.version.version).read_all()
        test = label.filter(pc.equal(label["split"], "test"))["label"].to_pylist()
        found = made.audit.parts["test"].label
        if task == "binary":
            assert found == {"yes": pytest.approx(sum(test) / len(test))}
        elif task == "multiclass":
            assert list(found) == ["early", "late", "on time"]
            assert found["late"] == pytest.approx(test.count("late") / len(test))
        else:
            assert found["min"] == min(test)
            assert found["max"] == max(test)
            assert found["mean"] == pytest.approx(sum(test) / len(test))
        assert published_training_set(lake, made.version) == made


@pytest.mark.parametrize(
    ("task", "column", "message"),
    [
        ("binary", "outcome", "is VARCHAR, where a binary task needs a boolean, or 0 and 1"),
        ("regression", "late", "is BOOLEAN, where a regression needs a number"),
        (
            "regression",
            "known_at",
            "is TIMESTAMP WITH TIME ZONE, where a regression needs a number",
        ),
        ("multiclass", "minutes", r"train: \d+ different labels; .* at most 100"),
        ("multiclass", "flight_id", r"train: \d+ different labels; .* at most 100"),
    ],
)
def test_a_label_column_of_the_wrong_kind_is_refused(
    task: str,
    column: str,
    message: str,
    lake: Lake,
    declare: Callable[..., ModelFamily],
    views: FeatureRegistry,
):
    label = {"table": "marts/outcomes", "column": column, "available_at": "known_at"}
    with refused(message):
        build_training_set(lake, declare(name="refused", task=task, label=label), views)
    assert not lake.exists(TableName("training", "refused"))


def test_labels_that_cannot_be_learnt_from_are_refused_for_each_task(
    make_lake: Make, tables: Tables, families: dict[str, ModelFamily], views: FeatureRegistry
):
    outcomes = tables[OUTCOMES]
    rows = len(outcomes)

    def build(task: str, column: str, values: pa.Array) -> None:
        lake = make_lake(outcomes=replaced(outcomes, column, values))
        build_training_set(lake, families[task], views)

    late_class = pa.array(["lost" if i > rows - 100 else f"kind {i % 3}" for i in range(rows)])
    with refused(
        r"test: classes \['lost'\] do not occur in train, which has kind 0, kind 1, kind 2"
    ):
        build("multiclass", "outcome", late_class)
    with refused(r"train: all \d+ labels are 'same'; a multiclass task needs at least two"):
        build("multiclass", "outcome", pa.array(["same"] * rows))
    with refused(r"train: \d+ labels are blank"):
        build("multiclass", "outcome", pa.array(["", "a", "b"] * (rows // 3)))
    with refused(r"train: \d+ labels are infinite or NaN"):
        build("regression", "minutes", pa.array([float("nan"), float("inf"), 1.0] * (rows // 3)))
    with refused(r"validation: \d+ labels have only the values 1, 2, 3; a regression needs"):
        build("regression", "minutes", pa.array([1.0, 2.0, 3.0] * (rows // 3)))
