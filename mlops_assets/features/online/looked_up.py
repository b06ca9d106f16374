"""What a lookup answers: feature values by output name, and for each how it came to be known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlops_assets.features.online.rows import StoredRow


class Status(StrEnum):
    """What is known of one entity in one view at one moment."""

    fresh = "fresh"
    """The value is known, and not older than the view's ttl."""
    expired = "expired"
    """The latest known value is older than the ttl, so that it counts as missing."""
    unknown_entity = "unknown_entity"
    """Nothing was known of the entity, or a column of its key is null."""
    newer_than_as_of = "newer_than_as_of"
    """The store holds a value that was not yet known: to use it would leak. Only the lake knows."""
    superseded = "superseded"
    """A newer value than the stored one was known by then. Only the lake knows it."""
    not_filled = "not_filled"
    """The store does not hold the view, or not these features of it. Only the lake knows."""


ANSWERED = frozenset({Status.fresh, Status.expired, Status.unknown_entity})
"""Those that say all there is to know. With any other one, the lake may have the missing value."""


@dataclass(frozen=True)
class ViewLookup:
    """How the values of one selection came to be known, row by row.

    Attributes
    ----------
    label
        Of the selection: its view's name after its prefix.
    view
        The view's name.
    version
        Version of the view's table that all of them come from; None if none was read.
    statuses
        What is known of each row's entity.
    event_times, available_ats
        What the row found describes and when it became known, in microseconds since 1970; None
        where no row was found. An expired value has both.
    ages
        Seconds from event time to the moment asked about; None where there is no event time. The
        ttl counts by this.
    from_lake
        Positions of the rows that the lake had to answer.
    """

    label: str
    view: str
    version: int | None
    statuses: Sequence[Status]
    event_times: Sequence[int | None]
    available_ats: Sequence[int | None]
    ages: Sequence[float | None]
    from_lake: frozenset[int] = frozenset()


@dataclass(frozen=True)
class LookedUp:
    """Feature values of some entities, each as it was known at its moment.

    Attributes
    ----------
    columns
        Values by output column, in the order of the selections; None where missing. Numbers are
        `int`, `float` or `bool`, categories are `str`.
    views
        How they came to be known, one for each selection.
    spine
        The spine's columns by name: what was sent, and what was found for it.
    as_of
        Moment of each row, in microseconds since 1970 in UTC.
    unknown
        Positions of entities that were given by their key alone and are in no spine. All their
        values are None, and their moment means nothing.
    """

    columns: Mapping[str, Sequence[Any]]
    views: Sequence[ViewLookup]
    spine: Mapping[str, Sequence[Any]]
    as_of: Sequence[int]
    unknown: tuple[int, ...] = ()

    @property
    def versions(self) -> Mapping[str, int]:
        """Version of its table that each view's values come from, of the views that were read."""
        return {each.view: each.version for each in self.views if each.version is not None}

    @property
    def source(self) -> str:
        """Say ``offline`` where the lake answered for every row of every view, else ``online``."""
        rows = len(self.as_of)
        from_lake = bool(self.views) and all(len(view.from_lake) == rows for view in self.views)
        return "offline" if from_lake else "online"

    def problems(self) -> Sequence[tuple[int, str, Status]]:
        """Return row, view label and status wherever a value is missing that could be known."""
        return [
            (row, view.label, status)
            for view in self.views
            for row, status in enumerate(view.statuses)
            if status not in ANSWERED
        ]


def judge(row: StoredRow | None, as_of: int, ttl: int | None) -> Status:
    """Say what a stored row means at a moment.

    Parameters
    ----------
    row
        What is stored of the entity.
    as_of
        The moment, in microseconds.
    ttl
        Of the view, in microseconds; None: no value is too old.
    """
    if row is None:
        return Status.unknown_entity
    if row.superseded_at is not None and row.superseded_at <= as_of:
        return Status.superseded
    if row.event_time is None or row.available_at is None:
        return Status.unknown_entity
    if row.available_at > as_of:
        return Status.newer_than_as_of
    if ttl is not None and row.event_time < as_of - ttl:
        return Status.expired
    return Status.fresh


def columns_of(outputs: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Turn rows of values into columns by name."""
    if not rows:
        return {output: [] for output in outputs}
    return dict(zip(outputs, map(list, zip(*rows, strict=True)), strict=True))
