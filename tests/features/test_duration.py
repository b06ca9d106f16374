from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.features.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("PT6H", timedelta(hours=6)),
        ("P1DT12H", timedelta(days=1, hours=12)),
        ("P2W", timedelta(weeks=2)),
        ("PT90M", timedelta(minutes=90)),
        ("PT0.000001S", timedelta(microseconds=1)),
        ("P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
    ],
)
def test_reads_iso_8601(text, duration):
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("6 hours", "is not an ISO-8601 duration"),
        ("PT", "is not an ISO-8601 duration"),
        ("P", "is not an ISO-8601 duration"),
        ("P1DT", "is not an ISO-8601 duration"),
        ("PT6H ", "is not an ISO-8601 duration"),
        ("-PT6H", "is not an ISO-8601 duration"),
        ("P1M", "months and years vary"),
        ("P1Y2D", "months and years vary"),
        ("PT0S", "is zero"),
        ("P9999999999D", "is longer than"),
    ],
)
def test_refuses_what_has_no_fixed_length(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=40_000)))
def test_what_is_written_reads_back(duration):
    assert parse_duration(format_duration(duration)) == duration
