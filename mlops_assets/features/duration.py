"""ISO-8601 durations of fixed length, such as ``PT6H`` or ``P1DT12H``."""

import re
from datetime import timedelta

_DURATION = re.compile(
    r"P(?=[\dT])(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d{1,6})?)S)?)?"
)
_CALENDAR = re.compile(r"P(\d+Y|\d+M)", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read an ISO-8601 duration.

    Raises
    ------
    ValueError
        If it is no duration, is zero, or counts in months or years, whose length varies.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        if _CALENDAR.match(text):
            raise ValueError("months and years vary in length; count in days, such as 'P30D'")
        raise ValueError("is not an ISO-8601 duration, such as 'PT6H' or 'P1DT12H'")
    parts = {unit: float(number) for unit, number in match.groupdict("0").items()}
    try:
        duration = timedelta(**parts)
    except OverflowError as error:
        raise ValueError("is longer than time itself is counted here") from error
    if not duration:
        raise ValueError("is zero: no value would ever be fresh. Use null for no limit")
    return duration


def format_duration(duration: timedelta) -> str:
    """Write a positive duration the way `parse_duration` reads it, in its shortest form."""
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{duration.microseconds:06d}".rstrip("0") if duration.microseconds else ""
    days = f"{duration.days}D" if duration.days else ""
    time = "".join(
        (
            f"{hours}H" if hours else "",
            f"{minutes}M" if minutes else "",
            f"{seconds}{fraction}S" if seconds or fraction else "",
        )
    )
    return f"P{days}" + (f"T{time}" if time else "")
