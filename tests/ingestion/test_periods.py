"""A ``{date}`` in a path stands for the period its file covers."""

import datetime as dt

import pytest

from mlops_assets.ingestion.periods import PathPattern

D = dt.datetime


@pytest.mark.parametrize(
    ("pattern", "path", "start", "end"),
    [
        ("f-{date:%Y-%m-%d}.csv", "f-2013-12-31.csv", D(2013, 12, 31), D(2014, 1, 1)),
        ("f-{date}.csv", "f-2013-02-28.csv", D(2013, 2, 28), D(2013, 3, 1)),
        ("{date:%Y}/{date:%m}/*.csv", "2013/12/a.csv", D(2013, 12, 1), D(2014, 1, 1)),
        ("{date:%Y}/f{date:%Y%m%d}.csv", "2013/f20130105.csv", D(2013, 1, 5), D(2013, 1, 6)),
        ("f{date:%Y}.csv", "f2013.csv", D(2013, 1, 1), D(2014, 1, 1)),
        ("f{date:%Y.%j}.csv", "f2013.032.csv", D(2013, 2, 1), D(2013, 2, 2)),
        ("f{date:%Y%m%dT%H}.csv", "f20130105T23.csv", D(2013, 1, 5, 23), D(2013, 1, 6)),
        ("**/f[0-9]?-{date:%Y}.csv", "a/b/f1x-2013.csv", D(2013, 1, 1), D(2014, 1, 1)),
    ],
)
def test_the_name_tells_the_period(pattern: str, path: str, start: D, end: D) -> None:
    period = PathPattern.parse(pattern).period(path)
    assert period is not None
    assert (period.start, period.end) == (start, end)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("f-{date}.csv", "f-2013-02-30.csv"),
        ("f-{date}.csv", "f-2013-02-3.csv"),
        ("f.{date}.csv", "fx2013-02-03.csv"),
        ("{date:%Y}/f{date:%Y%m%d}.csv", "2012/f20130105.csv"),
    ],
)
def test_what_is_no_date_is_no_period(pattern: str, path: str) -> None:
    assert PathPattern.parse(pattern).period(path) is None


def test_a_window_names_every_file_it_needs() -> None:
    pattern = PathPattern.parse("{date:%Y}/m{date:%m}.csv")
    names = [name for name, _ in pattern.paths(D(2013, 11, 15), D(2014, 1, 1, 1))]
    assert names == ["2013/m11.csv", "2013/m12.csv", "2014/m01.csv"]
