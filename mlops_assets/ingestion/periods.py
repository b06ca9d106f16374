"""Paths with globs and ``{date:…}`` placeholders, and the period of time that a file covers."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Literal, Self

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_DIRECTIVES = {"%Y": 4, "%m": 2, "%d": 2, "%j": 3, "%H": 2}
_TOKEN = re.compile(r"\{[^{}]*\}|\*\*/?|\*|\?|\[!?[^\]/]+\]|.", re.DOTALL)
_Step = Literal["hour", "day", "month", "year"]


@dataclass(frozen=True)
class Period:
    """A half-open stretch of time ``[start, end)``, without a zone."""

    start: datetime
    end: datetime

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Whether it shares a moment with ``[start, end)``."""
        return self.start < end and start < self.end

    @property
    def days(self) -> list[date]:
        """The days, in UTC, with which it shares a moment."""
        return days_of(self.start, self.end + timedelta(days=1, microseconds=-1))


@dataclass(frozen=True)
class PathPattern:
    """A path as it was declared, taken apart.

    Attributes
    ----------
    text
        The path as declared.
    formats
        The strftime formats of its placeholders, in order; empty if it has none.
    step
        Length of the period that a file covers; None without placeholders.
    """

    text: str
    formats: tuple[str, ...]
    step: _Step | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a declared path apart.

        Raises
        ------
        ValueError
            If a placeholder is not ``{date}`` or ``{date:FORMAT}`` with a format that names a
            whole period.
        """
        formats = []
        for inner in _PLACEHOLDER.findall(text):
            name, _, form = inner.partition(":")
            if name != "date":
                raise ValueError(
                    f"unknown placeholder {{{inner}}} in {text!r}; the only one is {{date}}, with "
                    "a format as in {date:%Y-%m-%d}"
                )
            formats.append(form or "%Y-%m-%d")
        used = set(re.findall(r"%.", "".join(formats)))
        if unknown := sorted(used - set(_DIRECTIVES)):
            raise ValueError(
                f"{text!r} uses {unknown}; a {{date}} format may use {sorted(_DIRECTIVES)}"
            )
        return cls(text, tuple(formats), _step(used, text) if formats else None)

    def without_placeholders(self) -> str:
        """Return the path with every placeholder cut out, to look at its suffixes."""
        return _PLACEHOLDER.sub("", self.text)

    @property
    def glob(self) -> str:
        """The path as a glob that also matches every value of its placeholders."""
        return _PLACEHOLDER.sub("*", self.text)

    @property
    def is_glob(self) -> bool:
        """Whether it can match more than one file."""
        return bool(re.search(r"[*?\[]", self.glob))

    def period(self, path: str) -> Period | None:
        """Return the period that a matching path names, or None if it names no real date."""
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        parts: dict[str, str] = {}
        for directive, digits in zip(self._directives, found.groups(), strict=True):
            if parts.setdefault(directive, digits) != digits:
                return None  # the folder says one year, the file another
        try:
            # A period has no zone: it is compared with windows in UTC, which have none either.
            start = datetime.strptime(  # noqa: DTZ007
                " ".join(parts.values()), " ".join(parts)
            )
        except ValueError:  # has the shape of a date but is none, such as 2013-02-30
            return None
        return Period(start, _next(start, self._checked_step))

    def paths(self, start: datetime, end: datetime) -> list[tuple[str, Period]]:
        """Return what the path reads for every period that overlaps ``[start, end)``."""
        current = _floor(start, self._checked_step)
        listed = []
        while current < end:
            period = Period(current, _next(current, self._checked_step))
            name = _PLACEHOLDER.sub(
                lambda found, at=current: at.strftime(  # type: ignore[misc]  # default binds now
                    found[1].partition(":")[2] or "%Y-%m-%d"
                ),
                self.text,
            )
            listed.append((name, period))
            current = period.end
        return listed

    @property
    def _checked_step(self) -> _Step:
        if self.step is None:
            raise ValueError(f"{self.text!r} has no {{date}} placeholder, so no period")
        return self.step

    @property
    def _directives(self) -> list[str]:
        return re.findall(r"%.", "".join(self.formats))

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts = []
        for part in _TOKEN.findall(self.text):
            if part.startswith("{") and len(part) > 1:
                form = part[1:-1].partition(":")[2] or "%Y-%m-%d"
                parts.append(
                    re.sub(
                        r"%.",
                        lambda found: rf"(\d{{{_DIRECTIVES[str(found[0])]}}})",
                        re.escape(form),
                    )
                )
            elif part.startswith("**"):
                parts.append(".*")
            elif part == "*":
                parts.append("[^/]*")
            elif part == "?":
                parts.append("[^/]")
            elif part.startswith("[") and len(part) > 1:
                parts.append(part.replace("[!", "[^", 1))
            else:
                parts.append(re.escape(part))
        return re.compile("".join(parts))


def days_of(start: date, end: date) -> list[date]:
    """Return the days of a half-open window, in UTC; a part of a day is none."""
    first = start.date() if isinstance(start, datetime) else start
    last = end.date() if isinstance(end, datetime) else end
    return [first + timedelta(days=n) for n in range((last - first).days)]


def midnight(moment: date | datetime) -> datetime:
    """Return a window's bound as a time without a zone, in UTC."""
    if isinstance(moment, datetime):
        return moment.replace(tzinfo=None) - (moment.utcoffset() or timedelta())
    return datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 - UTC by convention


def _step(used: set[str], text: str) -> _Step:
    if "%Y" not in used or ("%d" in used and "%m" not in used):
        raise ValueError(
            f"the {{date}} of {text!r} does not name a whole period; use %Y, %Y-%m, %Y-%m-%d, "
            "%Y-%j or one of them with %H"
        )
    if "%H" in used:
        if "%d" not in used and "%j" not in used:
            raise ValueError(f"the {{date}} of {text!r} has an hour but no day")
        return "hour"
    if "%d" in used or "%j" in used:
        return "day"
    return "month" if "%m" in used else "year"


def _floor(moment: datetime, step: _Step) -> datetime:
    moment = moment.replace(minute=0, second=0, microsecond=0)
    if step != "hour":
        moment = moment.replace(hour=0)
    if step in {"month", "year"}:
        moment = moment.replace(day=1)
    return moment.replace(month=1) if step == "year" else moment


def _next(moment: datetime, step: _Step) -> datetime:
    if step == "hour":
        return moment + timedelta(hours=1)
    if step == "day":
        return moment + timedelta(days=1)
    if step == "month":
        return (moment + timedelta(days=31)).replace(day=1)
    return moment.replace(year=moment.year + 1)
