"""Shipping: finished segments become rows of ``inference/<family>``, exactly once.

Anybody may ship, at any time and as often as they like: the server's follower, a Dagster run, a
person. One does at a time; `shipments` says how nothing comes twice and nothing is lost.
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from mlops_assets.lake import (
    ConcurrentWriteError,
    Lake,
    StorageFullError,
    TableExistsError,
    TableName,
)
from mlops_assets.serving.inference_log.contents import Contents, read_contents
from mlops_assets.serving.inference_log.durable import make_durable
from mlops_assets.serving.inference_log.errors import ShippingError
from mlops_assets.serving.inference_log.segments import (
    REFUSED,
    SEGMENTS,
    finished_segments,
    sync_folder,
)
from mlops_assets.serving.inference_log.shipments import Shipment, State, shipping_lock
from mlops_assets.serving.inference_log.tables import (
    EVENT_COLUMNS,
    EVENTS,
    EVENTS_DESCRIPTION,
    FIXED,
    inference_table,
    together,
)

_log = logging.getLogger(__name__)

COMPACT_AFTER = 100
"""Appends to a table after which its small files become large ones."""

_MOST_BYTES = 32 << 20  # of segments at once: some ten times that is the memory it takes


@dataclass(frozen=True)
class Shipped:
    """What a call of `ship` did.

    Attributes
    ----------
    rows
        Predictions that became rows, by family.
    events
        Events that became rows.
    segments
        Segments that were shipped.
    refused
        Damaged segments, where they are now.
    torn_bytes
        Bytes of unfinished, so never answered, records at the ends of segments.
    seconds
        How long it took.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    events: int = 0
    segments: int = 0
    refused: tuple[Path, ...] = ()
    torn_bytes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.segments:
            return "no finished segment waits"
        rows = ", ".join(f"{count} of {family}" for family, count in sorted(self.rows.items()))
        text = f"{self.segments} segments in {self.seconds:.1f} s: predictions {rows or 'none'}"
        text += f", events {self.events}" if self.events else ""
        return text + (f", refused {len(self.refused)} segments" if self.refused else "")


def ship(lake: Lake, folder: Path, *, timeout: float = 60.0) -> Shipped:
    """Turn every finished segment into rows.

    It may be killed at any moment and called again, by anybody: nothing is lost or comes twice.

    Parameters
    ----------
    lake
        Gets the rows, in ``inference/<family>`` and ``inference/events``.
    folder
        The log's folder.
    timeout
        Seconds to wait for another who ships.

    Raises
    ------
    ShippingError
        When another still ships after that time, or the record of shipments cannot be right.
    mlops_assets.lake.LakeError
        When the lake cannot be written. The segments stay, and the next call goes on.
    OSError
        When the log's folder cannot be.
    """
    began = time.monotonic()
    shipped = Shipped()
    with shipping_lock(folder, timeout=timeout):
        shipment = Shipment.read(folder)
        if shipment.state is not State.done:
            shipment, shipped = _finish(lake, folder, shipment, shipped, is_new=False)
        while segments := _some_finished(folder):
            shipment = shipment.next(segments)
            shipment.write(folder)
            shipment, shipped = _finish(lake, folder, shipment, shipped, is_new=True)
    return replace(shipped, seconds=time.monotonic() - began)


def create_tables(lake: Lake, families: Iterable[str]) -> None:
    """Create the tables of these families, and that of events, where they are not there yet.

    They are empty and have the columns that all families share; the others come with rows.
    """
    wanted = {inference_table(family): (FIXED, _description(family)) for family in families}
    for table, (schema, description) in {
        **wanted,
        EVENTS: (EVENT_COLUMNS, EVENTS_DESCRIPTION),
    }.items():
        try:
            if not lake.exists(table):
                lake.create(table, schema, description)
        except TableExistsError:
            continue  # a shipper was faster


def _description(family: str) -> str:
    return f"Predictions that the server answered with {family}: one row each, exactly once."


def _some_finished(folder: Path) -> tuple[str, ...]:
    """Return the names of finished segments, as many as fit into memory, at least one."""
    names: list[str] = []
    size = 0
    for path in finished_segments(folder):
        size += path.stat().st_size
        if names and size > _MOST_BYTES:
            break
        names.append(path.name)
    return tuple(names)


def _finish(
    lake: Lake, folder: Path, shipment: Shipment, shipped: Shipped, *, is_new: bool
) -> tuple[Shipment, Shipped]:
    """Do what is left of a shipment."""
    paths = [folder / SEGMENTS / name for name in shipment.segments]
    there = [path for path in paths if path.exists()]
    contents = read_contents(there)
    if shipment.state is State.appending:
        if absent := len(paths) - len(there):
            _log.error("%d segments of %s were removed by somebody else.", absent, folder)
        shipment = _append(lake, folder, contents, shipment, is_new=is_new).at(State.removing)
        shipment.write(folder)
    refused = _remove(folder, there, contents.damaged)
    shipment = _compact(lake, shipment).at(State.done)
    shipment.write(folder)
    rows = dict(shipped.rows)
    for family, tables in contents.families.items():
        rows[family] = rows.get(family, 0) + sum(map(len, tables))
    return shipment, Shipped(
        rows=rows,
        events=shipped.events + sum(map(len, contents.events)),
        segments=shipped.segments + len(there),
        refused=shipped.refused + refused,
        torn_bytes=shipped.torn_bytes + contents.torn_bytes,
    )


def _append(
    lake: Lake, folder: Path, contents: Contents, shipment: Shipment, *, is_new: bool
) -> Shipment:
    """Append all rows of a shipment and have them survive the loss of power."""
    wanted: list[tuple[TableName, Sequence[pa.Table], str]] = [
        (inference_table(family), tables, _description(family))
        for family, tables in sorted(contents.families.items())
    ]
    if contents.events:
        wanted.append((EVENTS, contents.events, EVENTS_DESCRIPTION))
    appends = dict(shipment.appends)
    for table, tables, description in wanted:
        stored = lake.schema(table) if lake.exists(table) else None
        rows = together(tables, stored)
        commit = lake.append(
            table,
            rows,
            transaction=shipment.transaction,
            metadata={"segments": list(shipment.segments)},
            allow_schema_change=stored is not None and len(rows.schema) > len(stored),
            description=description,
        )
        if commit is None and is_new:
            shipment.before().write(folder)
            raise ShippingError(
                f"{table} has had a shipment {shipment.number} of the log in {folder} before, so "
                "its record of shipments is older than the table, as after a restored backup. "
                "Nothing is shipped. Remove shipments.json there to go on; segments that were "
                "restored with it and had been shipped are then in the table twice."
            )
        make_durable(lake, table, commit, shipment.transaction)
        appends[str(table)] = appends.get(str(table), 0) + 1
    return replace(shipment, appends=appends)


def _remove(
    folder: Path, segments: Sequence[Path], damaged: Mapping[Path, Sequence[str]]
) -> tuple[Path, ...]:
    """Remove segments whose rows stand; put damaged ones aside, each with what is wrong with it."""
    refused = []
    for path in segments:
        if path not in damaged:
            path.unlink()
            continue
        aside = folder / REFUSED / path.name
        aside.parent.mkdir(exist_ok=True)
        report = {
            "segment": path.name,
            "problems": list(damaged[path]),
            "shipped": "every other record of it",
        }
        aside.with_suffix(".json").write_text(json.dumps(report, indent=1), "utf-8")
        path.rename(aside)
        sync_folder(aside.parent)
        _log.error("Segment %s is damaged: %s", aside, "; ".join(damaged[path]))
        refused.append(aside)
    if segments:
        sync_folder(folder / SEGMENTS)
    return tuple(refused)


def _compact(lake: Lake, shipment: Shipment) -> Shipment:
    """Rewrite the small files of tables that have had many appends."""
    appends = dict(shipment.appends)
    for table, count in shipment.appends.items():
        if count < COMPACT_AFTER:
            continue
        try:
            lake.compact(TableName.parse(table))
        except (ConcurrentWriteError, StorageFullError) as error:
            _log.warning("%s is not compacted now: %s", table, error)  # the next shipment tries
        else:
            appends[table] = 0
    return replace(shipment, appends=appends)
