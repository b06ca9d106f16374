"""A full disk: the declared policy holds; the log works again by itself and says what it missed."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.serving.inference_log import (
    InferenceLog,
    InferenceLogError,
    Kept,
    LogFullError,
    LoggedModel,
    WhenFull,
)
from mlops_assets.serving.inference_log.shipping import ship
from tests.disks import small_disk
from tests.serving.inference_log.conftest import Answer, until
from tests.serving.inference_log.processes import start

TABLE = TableName.parse("inference/flight_delay")


@pytest.mark.parametrize("policy", ["refuse", "serve"])
def test_a_file_that_cannot_grow(tmp_path: Path, lake: Lake, folder: Path, policy: str) -> None:
    with start("fill", tmp_path, policy) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    outcomes = output.splitlines()
    not_logged = "refused True True" if policy == "refuse" else "missed True True"
    missed = [number for number, said in enumerate(outcomes) if said == not_logged]
    logged = [number for number, said in enumerate(outcomes) if said == "logged False False"]
    assert missed == list(range(missed[0], 60)), outcomes
    assert sorted(missed + logged) == list(range(100))

    shipped = ship(lake, folder)

    assert shipped.refused == ()
    assert shipped.torn_bytes == 0  # what did not fit was taken back
    with lake.connect() as con:
        ids = con.sql(f"SELECT prediction_id FROM {TABLE.sql}").fetchall()
        events = con.sql(
            'SELECT kind, family, version, epoch_us(since), "rows" FROM inference.events '
            'ORDER BY "at", kind'
        ).fetchall()
    assert sorted(ids) == sorted((f"r{number}-0",) for number in logged)
    by_kind = {kind: rest for kind, *rest in events}
    assert len(by_kind) == len(events), "an event came more than once"
    assert "cannot be written" in errors
    assert by_kind["log_recovered"][-1] == (0 if policy == "refuse" else len(missed))
    if policy == "serve":
        assert by_kind.pop("log_gap") == ["flight_delay", 3, missed[0], len(missed)]
    assert set(by_kind) == {"log_full", "log_recovered"}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte, where this machine lets us mount one."""
    with small_disk(tmp_path / "disk", "512k") as disk:
        yield disk


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - any other error is a failure here


def test_a_full_disk(tiny_disk: Path, lake: Lake, model: LoggedModel, answer: Answer) -> None:
    with InferenceLog(tiny_disk, sync_seconds=0.01, when_full=WhenFull.refuse) as log:
        log.declare("flight_delay", 3, model)
        log.append([answer(request_id="before")])
        fill(tiny_disk / "ballast")
        logged = 0
        with pytest.raises(  # noqa: PT012 - the page that has been begun still has room
            LogFullError, match=f"{tiny_disk}.*No space left"
        ) as caught:
            for logged in range(10_000):
                log.append([answer(request_id=f"last{logged}", rows=20)])
        assert caught.value.retry_after > 0
        assert log.status().full
        (tiny_disk / "ballast").unlink()
        until(lambda: not log.status().full)  # it notices by itself, without a request
        assert log.append([answer(request_id="after")]) is Kept.logged
    shipped = ship(lake, tiny_disk)
    assert shipped.rows == {"flight_delay": 2 + 20 * logged}
    assert shipped.events == 2


def test_a_disk_that_is_full_from_the_start_is_named(tiny_disk: Path) -> None:
    fill(tiny_disk / "ballast")
    with pytest.raises(InferenceLogError, match=f"{tiny_disk}.*Free space"):
        InferenceLog(tiny_disk / "inference")
