"""A split that moves on with the labels, and training sets made of what was known at an instant."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake, TableName
from mlops_assets.training import FamilyError, ModelFamily
from mlops_assets.training.family_split import SplitDays
from mlops_assets.training.training_set import build_training_set, published_training_set
from mlops_assets.training.training_set_relations import TrainingSetError

OUTCOMES = TableName("marts", "outcomes")
SPLIT = {"train_end": "2013-02-01", "validation_end": "2013-02-08", "test_end": "2013-02-15"}
ROLLING = {"validation_days": 7, "test_days": 10}
AS_OF = datetime(2013, 4, 10, 12, tzinfo=UTC)
Declare = Callable[..., ModelFamily]
Tables = dict[TableName, pa.Table]


@pytest.fixture
def rolling(declare: Declare) -> ModelFamily:
    return declare(split={**SPLIT, "rolling": ROLLING})


def test_declared_days_hold_until_labels_pass_them(rolling: ModelFamily):
    declared = SplitDays(None, date(2013, 2, 1), date(2013, 2, 8), date(2013, 2, 15))
    assert rolling.split.days() == declared
    assert rolling.split.days(date(2013, 2, 14)) == declared
    assert rolling.split.days(date(2013, 2, 15)) == SplitDays(
        None, date(2013, 1, 30), date(2013, 2, 6), date(2013, 2, 16)
    )


def test_without_rolling_they_hold_for_ever(declare: Declare):
    split = declare(split=SPLIT).split
    assert split.days(date(2020, 1, 1)) == split.days()


@pytest.mark.parametrize(
    ("train_start", "train_days", "first"),
    [
        ("2013-01-10", None, date(2013, 1, 10)),
        ("2013-01-10", 20, date(2013, 2, 22)),
        (None, 20, date(2013, 2, 22)),
        ("2013-01-10", 2000, date(2013, 1, 10)),
    ],
)
def test_training_begins_where_it_was_declared_to(
    declare: Declare, train_start: str | None, train_days: int | None, first: date
):
    split = {**SPLIT, "train_start": train_start, "rolling": {**ROLLING, "train_days": train_days}}
    assert declare(split=split).split.days(date(2013, 3, 30)).train_start == first


def test_parts_that_leave_nothing_to_train_on_are_refused(declare: Declare):
    wrong = {**SPLIT, "train_start": "2013-01-20", "rolling": {**ROLLING, "test_days": 40}}
    with pytest.raises(FamilyError, match=r"split.rolling.*are 47 together.*there are 26"):
        declare(split=wrong)


def test_a_training_set_ends_with_the_newest_day_whose_labels_were_due(
    make_lake: Callable[..., Lake], rolling: ModelFamily, views: FeatureRegistry
):
    lake = make_lake()
    built = build_training_set(lake, rolling, views, as_of=AS_OF)
    # Labels are due after two days, and the last prediction of 7 April was made at 21:40.
    assert built.split == SplitDays(None, date(2013, 3, 22), date(2013, 3, 29), date(2013, 4, 8))
    parts = built.audit.parts
    assert (parts["train"].last_day, parts["validation"].first_day) == (
        date(2013, 3, 21),
        date(2013, 3, 22),
    )
    assert (parts["test"].first_day, parts["test"].last_day) == (
        date(2013, 3, 29),
        date(2013, 4, 7),
    )
    assert built.as_of == AS_OF
    assert published_training_set(lake, built.version) == built
    # Everything is known today, and then the newest day of all is the last one.
    assert build_training_set(lake, rolling, views).audit.parts["test"].last_day == date(
        2013, 4, 30
    )


def test_what_became_known_later_changes_nothing(
    make_lake: Callable[..., Lake], rolling: ModelFamily, views: FeatureRegistry, tables: Tables
):
    outcomes = tables[OUTCOMES]
    late = pc.greater(outcomes["known_at"], pa.scalar(AS_OF, pa.timestamp("us", "UTC")))
    inverted = pc.if_else(late, pc.invert(outcomes["late"]), outcomes["late"])
    changed = outcomes.set_column(outcomes.column_names.index("late"), "late", inverted)
    assert pc.sum(late).as_py() > 700  # else this would show nothing
    then, now = make_lake(), make_lake(outcomes=changed)
    one, other = (build_training_set(lake, rolling, views, as_of=AS_OF) for lake in (then, now))
    assert one == other
    read = [
        lake.read(made.version.table).read_all().sort_by("flight_id")
        for lake, made in ((then, one), (now, other))
    ]
    assert read[0].equals(read[1])
    assert pc.max(read[0]["label_available_at"]).as_py() <= AS_OF
    assert pc.max(read[0]["prediction_time"]).as_py() < AS_OF - timedelta(days=2)


def test_an_instant_needs_a_zone(lake: Lake, family: ModelFamily, views: FeatureRegistry):
    with pytest.raises(TrainingSetError, match=r"2013-04-10T12:00:00 has no time zone"):
        build_training_set(lake, family, views, as_of=AS_OF.replace(tzinfo=None))
