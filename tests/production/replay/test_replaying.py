"""A replay lives history with what production calls, and leaves the real home as it was."""

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

from mlops_assets.lake import TableName
from mlops_assets.monitoring.tables import DECISIONS
from mlops_assets.production.incidents import IncidentKind, incidents
from mlops_assets.production.platform import Platform
from mlops_assets.production.replay.chart import lanes_of, write_chart
from mlops_assets.production.replay.errors import ReplayError
from mlops_assets.production.replay.faults import Fault, FaultKind, parse_fault
from mlops_assets.production.replay.record import Replayed
from mlops_assets.production.replay.replaying import replay
from mlops_assets.settings import load_settings
from mlops_assets.training import ModelFamily
from mlops_assets.training.training_set import published_training_set
from tests.production.replay.replayed_world import (
    ALERTS,
    FAMILY,
    FIRST,
    LAST,
    RAW_DAYS,
    VIEWS,
    make_deployment,
)

PER_DAY = 30
FAULTS = (
    "late-correction@2013-02-21",
    "bad-model@2013-02-22",
    "broken-file@2013-02-23",
    "drift:delays@2013-03-01",
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return make_deployment(tmp_path_factory.mktemp("real"))


def files(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((home).rglob("*"))
        if path.is_file()
    }


def home_of(found: Replayed) -> Platform:
    return Platform(load_settings(home=found.home))


@pytest.fixture(scope="module")
def lived(real: Platform, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """Two weeks with every kind of fault."""
    before = files(real.settings.home)
    found = replay(
        real,
        FAMILY,
        VIEWS,
        (FIRST, LAST),
        tmp_path_factory.mktemp("replay") / "home",
        alerts=ALERTS,
        faults=[parse_fault(text) for text in FAULTS],
        raw=RAW_DAYS,
    )
    assert files(real.settings.home) == before
    return found


def test_every_day_is_lived_and_every_fault_handled(lived: Replayed):
    assert [day.day for day in lived.days] == [
        FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)
    ]
    assert [
        (fault.fault, fault.handled, fault.said) for fault in lived.faults if not fault.handled
    ] == []
    assert [fault.fault for fault in lived.faults] == list(FAULTS)
    by_day = {day.day: day for day in lived.days}
    assert by_day[date(2013, 2, 23)].predictions == 0  # its file was broken
    assert by_day[date(2013, 2, 24)].predictions == PER_DAY
    assert by_day[date(2013, 2, 21)].predictions == PER_DAY - PER_DAY // 3


def test_the_bad_model_serves_until_it_is_taken_back(lived: Replayed):
    [taken_back] = lived.rollbacks
    bad = next(day for day in lived.days if day.day == taken_back)
    assert bad.champion != lived.champion
    served = [day.day for day in lived.days if day.champion == bad.champion]
    assert served[0] == date(2013, 2, 23)
    assert served[-1] == taken_back
    assert bad.rolled_back_to == lived.champion
    after = home_of(lived)
    [incident] = [one for one in incidents(after.lake) if one.kind is IncidentKind.model_rollback]
    assert incident.at.date() == taken_back + timedelta(days=1)  # in that evening, by its clock
    assert any(alert.startswith("incident") for day, alert in lived.alerts if day == taken_back)


def test_a_training_learns_what_was_known_that_evening(lived: Replayed):
    trained = [(day, training) for day, training in lived.trainings if training.challenger]
    assert trained
    after = home_of(lived)
    for day, training in trained:
        version = after.registry.find(f"{lived.family}/{training.challenger}")
        made = published_training_set(after.lake, version.training_set)
        assert made.as_of.date() == day + timedelta(days=1)
        assert made.audit.parts["test"].last_day < day


def test_it_is_written_as_production_writes_it(lived: Replayed):
    lake = home_of(lived).lake
    with lake.connect(tables=[DECISIONS]) as con:
        [(days, retrained)] = con.sql(
            f"SELECT count(DISTINCT day), count_if(retrain) FROM {DECISIONS.sql}"
        ).fetchall()
    assert days == len(lived.days)
    assert retrained == sum(day.retrain for day in lived.days)
    assert lake.exists(TableName("alerts", "log"))


def test_it_is_told_in_json_and_drawn(lived: Replayed, tmp_path: Path):
    told = json.loads(lived.to_json())
    assert told["days"][0]["day"] == str(FIRST)
    assert told["faults"][1]["handled"] is True
    picture, page = write_chart(lived, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "was taken back" in text
    assert not re.search(
        r"<(script|link|img|iframe)|url\((?!#)|\ssrc=", text
    )  # it needs nothing else
    lanes = {lane.name: list(lane.days) for lane in lanes_of(lived)}
    assert lanes["rolled back"] == list(lived.rollbacks)
    assert date(2013, 2, 23) in lanes["alert"]


# What is refused ----------------------------------------------------------------------------------


def refused(
    real: Platform,
    tmp_path: Path,
    first: date,
    last: date,
    family: ModelFamily = FAMILY,
    faults: Sequence[Fault] = (),
) -> str:
    with pytest.raises(ReplayError) as error:
        replay(
            real,
            family,
            VIEWS,
            (first, last),
            tmp_path / "home",
            alerts=ALERTS,
            faults=faults,
        )
    return str(error.value)


def test_days_that_the_champion_has_learnt_from_are_refused(real: Platform, tmp_path: Path):
    said = refused(real, tmp_path, date(2013, 1, 20), date(2013, 2, 1))
    assert "late_flights/1 learnt from days up to 2013-01-27" in said
    assert "begin on 2013-01-28 or later" in said


def test_days_without_history_are_refused(real: Platform, tmp_path: Path):
    said = refused(real, tmp_path, FIRST, date(2013, 6, 1))
    assert "has days from 2013-01-01 to 2013-03-31" in said
    assert "before the first" in refused(real, tmp_path, LAST, FIRST)


def test_a_split_that_cannot_roll_is_refused_where_it_would_matter(real: Platform, tmp_path: Path):
    fixed = FAMILY.model_copy(update={"split": FAMILY.split.model_copy(update={"rolling": None})})
    assert "split.rolling" in refused(real, tmp_path, FIRST, LAST, fixed)


def test_faults_that_cannot_be_are_refused(real: Platform, tmp_path: Path):
    outside = Fault(FaultKind.drift, date(2013, 5, 1), "wind")
    assert "not within" in refused(real, tmp_path, FIRST, LAST, faults=[outside])
    nothing = Fault(FaultKind.drift, FIRST, "wing")
    assert "did you mean 'wind'" in refused(real, tmp_path, FIRST, LAST, faults=[nothing])
    broken = Fault(FaultKind.broken_file, FIRST)
    assert "no raw table" in refused(real, tmp_path, FIRST, LAST, faults=[broken])


def test_a_folder_that_holds_something_is_refused(real: Platform, tmp_path: Path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine").touch()
    assert "is not empty" in refused(real, tmp_path, FIRST, LAST)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drift@2013-03-01", "names no feature"),
        ("bad-model:x@2013-03-01", "takes nothing, not 'x'"),
        ("bad-modle@2013-03-01", "did you mean 'bad-model'"),
        ("bad-model@soon", "'soon' is no day"),
        ("bad-model", "no kind of fault"),
    ],
)
def test_a_fault_that_is_written_wrongly_is_explained(text: str, said: str):
    with pytest.raises(ReplayError, match=said):
        parse_fault(text)


def test_a_fault_reads_as_it_is_written():
    assert str(parse_fault("drift:wind@2013-03-01")) == "drift:wind@2013-03-01"
