"""Looking up the features of a request: in the online store, and in the lake where only it knows.

A stored value is used for a moment only if it is what the point-in-time join over the same table
version gives for that moment. Where it is not, because the moment is in the past or something newer
was known by then, and where a view is not filled, the lake answers, from the version that the store
was filled from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from mlops_assets.features.online.asking import Asked, AsOf, Entities, KeyColumns, ttl_of
from mlops_assets.features.online.layout import Layout, SpineTable, ViewState, from_stored
from mlops_assets.features.online.looked_up import (
    ANSWERED,
    LookedUp,
    Status,
    columns_of,
    judge,
)
from mlops_assets.features.online.offline import LakeRequest, OfflineLookup, view_lookup
from mlops_assets.features.online.rows import Found, StoredRow, encode_key
from mlops_assets.features.online.store import OnlineStore
from mlops_assets.features.selection import Selection
from mlops_assets.lake import Lake

_NO_KEY = b""  # found in no store: a key is never empty


class LookupPolicy(StrEnum):
    """Who answers."""

    online = "online"
    """The store alone. What it cannot say is missing, with its status."""
    online_first = "online_first"
    """The store, and the lake for the rows of views that the store cannot answer."""
    offline = "offline"
    """The lake alone."""


@dataclass
class _View:
    """One selection, and how it is read from what is stored now."""

    selection: Selection
    outputs: tuple[str, ...]
    ttl: int | None
    layout: Layout | None = None
    key: KeyColumns | None = None
    positions: tuple[int, ...] | None = None

    def reads(self, layout: Layout) -> "_View":
        """Return how it is read from rows of that layout; without positions if it cannot be."""
        names = tuple(column.name for column in layout.key)
        found = [layout.position(name) for name in self.selection.features]
        positions = tuple(position for position in found if position is not None)
        if names != self.selection.view.entity or len(positions) < len(found):
            return replace(self, layout=layout, key=None, positions=None)
        return replace(
            self,
            layout=layout,
            key=KeyColumns.of(self.selection, layout.key),
            positions=positions,
        )


@dataclass
class _Answer:
    """What is known of one selection so far, row by row."""

    view: _View
    version: int | None
    rows: list[StoredRow | None]
    statuses: list[Status]
    values: list[Sequence[Any]]
    from_lake: frozenset[int] = frozenset()


class FeatureLookup:
    """Looks up a family's features; made once, used for every request, by any number of threads.

    Parameters
    ----------
    store
        Where latest values are.
    lake
        Answers what the store cannot.
    spine
        Where an entity is found by its key.
    selections
        Features, by the spine columns they are joined by.

    Raises
    ------
    mlops_assets.features.PointInTimeJoinError
        If no feature is selected, or two output columns would have one name.
    """

    def __init__(
        self, store: OnlineStore, lake: Lake, spine: SpineTable, selections: Sequence[Selection]
    ) -> None:
        self._store = store
        self._offline = OfflineLookup(lake, spine, selections)
        self._question = self._offline.question
        self._views = tuple(
            _View(each, tuple(f"{each.prefix}{name}" for name in each.features), ttl_of(each))
            for each in selections
        )
        self._states: Mapping[str, ViewState] | None = None

    @property
    def joined_by(self) -> tuple[str, ...]:
        """Spine columns that the features are joined by: what an entity of no table must give."""
        return self._question.joined_by

    def rows(
        self,
        entities: Entities,
        as_of: AsOf = None,
        *,
        policy: LookupPolicy = LookupPolicy.online_first,
    ) -> LookedUp:
        """Look up feature values.

        Parameters
        ----------
        entities
            What to look up; see `Entities`.
        as_of
            As of when; see `AsOf`.
        policy
            Who answers.

        Raises
        ------
        EntityValueError
            If an entity lacks columns, or has a value that its column cannot have.
        OnlineStoreError
            If the store cannot be read; `OnlineStoreUnavailableError` where that may pass.
        mlops_assets.lake.LakeError
            If the lake is asked and cannot be read.
        """
        if policy is LookupPolicy.offline:
            return self._offline.rows(entities, as_of)
        asks_lake = policy is LookupPolicy.online_first
        asked = self._question.complete(
            entities, as_of, lambda keys: self._spine_rows(keys, asks_lake=asks_lake)
        )
        answers = self._stored(asked)
        if asks_lake:
            self._ask_lake(asked, answers)
        columns: dict[str, Sequence[Any]] = {}
        for answer in answers:
            columns |= columns_of(answer.view.outputs, answer.values)
        return LookedUp(
            columns,
            [
                view_lookup(
                    each.view.selection,
                    each.version,
                    each.rows,
                    each.statuses,
                    asked.as_of,
                    each.from_lake,
                )
                for each in answers
            ],
            asked.spine,
            asked.as_of,
            asked.unknown,
        )

    def _stored(self, asked: Asked) -> list[_Answer]:
        """Answer what the store can."""
        while True:
            views = self._planned()
            wanted = [
                (
                    view.selection.view.name,
                    [
                        _NO_KEY if key is None else encode_key(key)
                        for key in view.key.keys(asked.spine)
                    ]
                    if view.key is not None
                    else [],
                )
                for view in views
            ]
            found = self._store.get(wanted)
            if all(
                each.state is None if view.layout is None else _is_of(each.state, view.layout)
                for view, each in zip(views, found, strict=True)
            ):
                return [_judged(view, each, asked) for view, each in zip(views, found, strict=True)]
            self._states = None  # a fill has changed what is stored, not only the values

    def _planned(self) -> Sequence[_View]:
        """Return how each selection is read from what was stored when somebody last looked."""
        if self._states is None:
            states = self._store.state()
            self._views = tuple(
                view.reads(state.layout)
                if (state := states.get(view.selection.view.name)) is not None
                else replace(view, layout=None, key=None, positions=None)
                for view in self._views
            )
            self._states = states
        return self._views

    def _ask_lake(self, asked: Asked, answers: Sequence[_Answer]) -> None:
        """Let the lake answer what the store could not, in one session."""
        open_rows = [
            [row for row, status in enumerate(each.statuses) if status not in ANSWERED]
            for each in answers
        ]
        waiting = [(each, rows) for each, rows in zip(answers, open_rows, strict=True) if rows]
        if not waiting:
            return
        requests = [
            LakeRequest(
                answer.view.selection,
                {
                    name: [asked.spine[name][row] for row in rows]
                    for name, _ in answer.view.selection.keys
                },
                [asked.as_of[row] for row in rows],
                answer.version,
            )
            for answer, rows in waiting
        ]
        for (answer, rows), known in zip(waiting, self._offline.answer(requests), strict=True):
            answer.version = known.version
            answer.from_lake = frozenset(rows)
            for row, its in zip(rows, known.rows, strict=True):
                status = judge(its, asked.as_of[row], answer.view.ttl)
                answer.rows[row], answer.statuses[row] = its, status
                if its is not None and status is Status.fresh:
                    answer.values[row] = its.values

    def _spine_rows(
        self, keys: Sequence[Mapping[str, Any]], *, asks_lake: bool
    ) -> Sequence[Mapping[str, Any] | None]:
        """Find spine rows in the store; in the lake where the store has none or an older table."""
        spine = self._question.spine
        state = (self._states or {}).get(spine.name) or self._store.state().get(spine.name)
        if state is None:
            return self._offline.spine_rows(keys) if asks_lake else [None] * len(keys)
        columns = {name: [key[name] for key in keys] for name in spine.entity}
        encoded = [
            _NO_KEY if key is None else encode_key(key)
            for key in KeyColumns(state.layout.key).keys(columns)
        ]
        [found] = self._store.get([(spine.name, encoded)])
        if found.state is None or found.state.layout != state.layout:
            self._states = None
            return self._spine_rows(keys, asks_lake=asks_lake)
        rows = [
            None if row is None else _spine_row(state.layout, key, row)
            for key, row in zip(keys, found.rows, strict=True)
        ]
        absent = [position for position, row in enumerate(rows) if row is None]
        if absent and asks_lake and self._offline.spine_version() != found.state.source.version:
            newer = self._offline.spine_rows([keys[position] for position in absent])
            for position, row in zip(absent, newer, strict=True):
                rows[position] = row
        return rows


def _is_of(state: ViewState | None, layout: Layout) -> bool:
    return state is not None and (state.layout is layout or state.layout == layout)


def _judged(view: _View, found: Found, asked: Asked) -> _Answer:
    """Say what the store's rows mean for the moments asked about."""
    rows = len(asked.as_of)
    nothing: Sequence[Any] = [None] * len(view.outputs)
    if view.positions is None:
        version = found.state.source.version if found.state is not None else None
        return _Answer(view, version, [None] * rows, [Status.not_filled] * rows, [nothing] * rows)
    positions, ttl = view.positions, view.ttl
    statuses = [
        judge(row, moment, ttl) for row, moment in zip(found.rows, asked.as_of, strict=True)
    ]
    values = [
        [row.values[position] for position in positions]
        if row is not None and status is Status.fresh
        else nothing
        for row, status in zip(found.rows, statuses, strict=True)
    ]
    version = found.state.source.version if found.state is not None else None
    return _Answer(view, version, list(found.rows), statuses, values)


def _spine_row(layout: Layout, key: Mapping[str, Any], row: StoredRow) -> Mapping[str, Any]:
    values = {
        column.name: from_stored(value, column.kind)
        for column, value in zip(layout.columns, row.values, strict=True)
    }
    return {**key, **values}
