"""What every lookup of a family has in common: what is asked for, of which entities, as of when.

Made once per family, so that a request only has to be filled in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_assets.features.online.layout import (
    Kind,
    SpineTable,
    StoredColumn,
    microseconds,
    missing_columns,
    to_stored,
)
from mlops_assets.features.point_in_time import point_in_time_sql
from mlops_assets.features.selection import Selection, Spine

Entities = Sequence[Mapping[str, Any]]
"""Each the spine columns that features are joined by, or the key of an entity that has a spine row.

Where both are given, what is given wins over what is found."""

AsOf = datetime | Sequence[datetime] | None
"""One moment for all rows, or one each, with a time zone; None: when the spine says that the
prediction is made, or now where that is still to come."""

Find = Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any] | None]]
"""Finds the spine rows of entities by their keys."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Asked:
    """One request, completed.

    Attributes
    ----------
    spine
        Columns of the spine, by name.
    as_of
        Moment of each row, in microseconds.
    unknown
        Positions of entities that were not found.
    """

    spine: Mapping[str, Sequence[Any]]
    as_of: Sequence[int]
    unknown: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """What a family asks of its features.

    Attributes
    ----------
    spine
        Where an entity is found by its key.
    selections
        Features, each selection with the spine columns it is joined by.

    Raises
    ------
    mlops_assets.features.PointInTimeJoinError
        If no feature is selected, or two output columns would have one name.
    """

    spine: SpineTable
    selections: tuple[Selection, ...]

    def __post_init__(self) -> None:
        point_in_time_sql(Spine("spine", self.joined_by), self.selections)  # refuses what is wrong

    @property
    def joined_by(self) -> tuple[str, ...]:
        """Spine columns that the selections are joined by, each once."""
        return tuple(dict.fromkeys(mine for each in self.selections for mine, _ in each.keys))

    def complete(self, entities: Entities, as_of: AsOf, find: Find) -> Asked:
        """Find the spine rows of entities that are given by their key alone.

        Parameters
        ----------
        entities, as_of
            As the caller gave them.
        find
            Finds spine rows.

        Raises
        ------
        EntityValueError
            If an entity has neither the columns nor the key, or a time is none.
        ValueError
            If there is another number of moments than of entities, or one has no time zone.
        """
        moments = _moments(as_of, len(entities))
        needed = self.joined_by + (() if moments else (self.spine.prediction_time,))
        lacking = [
            row
            for row, entity in enumerate(entities)
            if not all(column in entity for column in needed)
        ]
        rows: list[Mapping[str, Any]] = list(entities)
        unknown: list[int] = []
        if lacking:
            found = find([self._key(row, entities[row], needed) for row in lacking])
            for row, its in zip(lacking, found, strict=True):
                if its is None:
                    unknown.append(row)
                else:
                    rows[row] = {**its, **entities[row]}
        names = dict.fromkeys((*self.joined_by, *(name for row in rows for name in row)))
        spine = {name: [row.get(name) for row in rows] for name in names}
        if not moments:
            moments = self._prediction_times(rows, set(unknown))
        return Asked(spine, moments, tuple(unknown))

    def _key(
        self, row: int, entity: Mapping[str, Any], needed: tuple[str, ...]
    ) -> Mapping[str, Any]:
        if all(name in entity for name in self.spine.entity):
            return {name: entity[name] for name in self.spine.entity}
        given = any(name in entity for name in needed)
        raise missing_columns(row, entity, needed if given else self.spine.entity)

    def _prediction_times(
        self, rows: Sequence[Mapping[str, Any]], unknown: set[int]
    ) -> Sequence[int]:
        now = microseconds(datetime.now(UTC))
        column = StoredColumn(self.spine.prediction_time, Kind.instant)
        return [
            now if row in unknown else min(now, to_stored(values[column.name], column, row))
            for row, values in enumerate(rows)
        ]


@dataclass(frozen=True)
class KeyColumns:
    """The columns that one selection's keys are made of.

    Attributes
    ----------
    columns
        Name in the spine, and kind in the view, in the order of the view's key.
    """

    columns: tuple[StoredColumn, ...]

    @classmethod
    def of(cls, selection: Selection, key: Sequence[StoredColumn]) -> "KeyColumns":
        """Return those of a selection from a view with that key."""
        pairs = zip(selection.keys, key, strict=True)
        return cls(tuple(StoredColumn(mine, stored.kind) for (mine, _), stored in pairs))

    def keys(self, spine: Mapping[str, Sequence[Any]]) -> list[list[Any] | None]:
        """Return each row's key as it is stored; None where a column of it is null.

        Raises
        ------
        EntityValueError
            If a value is none that its column can have.
        """
        stored = [
            [
                value
                if value is None or (type(value) is str and column.kind is Kind.text)
                else to_stored(value, column, row)
                for row, value in enumerate(spine[column.name])
            ]
            for column in self.columns
        ]
        return [None if None in key else list(key) for key in zip(*stored, strict=True)]


def ttl_of(selection: Selection) -> int | None:
    """Return the ttl of a selection's view, in microseconds."""
    ttl = selection.view.ttl
    return None if ttl is None else ttl // _MICROSECOND


def _moments(as_of: AsOf, rows: int) -> Sequence[int]:
    """Return given moments in microseconds; none where none is given."""
    if as_of is None:
        return ()
    moments = [as_of] * rows if isinstance(as_of, datetime) else list(as_of)
    if len(moments) != rows:
        raise ValueError(f"{len(moments)} moments for {rows} entities; give one, or one each")
    for moment in moments:
        if moment.tzinfo is None:
            raise ValueError(f"as_of {moment.isoformat()} has no time zone; give one, say UTC")
    return [microseconds(moment) for moment in moments]
