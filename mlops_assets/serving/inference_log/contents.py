"""What finished segments hold: predictions by family, events, and what could not be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mlops_assets.serving.inference_log.answered import LoggedModel
from mlops_assets.serving.inference_log.events import EventKind
from mlops_assets.serving.inference_log.frames import Damaged, Torn
from mlops_assets.serving.inference_log.records import (
    Declaration,
    Happened,
    Prediction,
    Record,
    Start,
)
from mlops_assets.serving.inference_log.segments import read_segment
from mlops_assets.serving.inference_log.tables import event_rows, family_rows, misfit
from mlops_assets.training.dataset import FeatureSchema

_ROWS_AT_ONCE = 20_000  # that are Python objects before they are Arrow


@dataclass
class Contents:
    """What was read from segments.

    Attributes
    ----------
    families
        Family to its rows, in pieces.
    events
        Events, in pieces.
    damaged
        Segment to what is wrong with it; what else it holds is in the others.
    torn_bytes
        Bytes of records that their writer did not live to finish; none of them was answered.
    """

    families: dict[str, list[pa.Table]] = field(default_factory=dict)
    events: list[pa.Table] = field(default_factory=list)
    damaged: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    torn_bytes: int = 0


def read_contents(paths: Sequence[Path]) -> Contents:
    """Read finished segments.

    Raises
    ------
    OSError
        When one cannot be read at all.
    """
    contents = Contents()
    for path in paths:
        _Reading(path, contents).read()
    return contents


@dataclass
class _Collected:
    """Predictions of one model that are not Arrow yet."""

    model: LoggedModel
    counts: tuple[int, int, int]  # of numeric and categorical features, and of outputs
    predictions: list[Prediction] = field(default_factory=list)
    rows: int = 0


class _Reading:
    """One segment while it is read."""

    def __init__(self, path: Path, contents: Contents) -> None:
        self._path = path
        self._contents = contents
        self._models: dict[tuple[str, int], _Collected] = {}
        self._events: list[Happened] = []
        self._problems: list[str] = []

    def read(self) -> None:
        """Add what the segment holds to the contents."""
        for record in read_segment(self._path.read_bytes()):
            self._take(record)
        for family, version in self._models:
            self._as_rows(family, version)
        if self._problems:
            self._contents.damaged[self._path] = tuple(self._problems)
            self._events.append(self._damage())
        if self._events:
            self._contents.events.append(event_rows(self._events))

    def _take(self, record: Record | Torn | Damaged) -> None:
        match record:
            case Prediction():
                self._predicted(record)
            case Declaration():
                self._declared(record)
            case Happened():
                self._events.append(record)
            case Torn():
                self._contents.torn_bytes += record.size
            case Damaged():
                where = f"byte {record.offset}, {record.size} bytes"
                self._problems.append(f"{where}: {record.reason}")
            case Start():
                pass  # its format has been looked at

    def _declared(self, record: Declaration) -> None:
        schema = FeatureSchema(tuple(record.names), tuple(record.categorical))
        entity = pa.ipc.read_schema(pa.py_buffer(record.entity))
        counts = len(schema.numeric), len(schema.categorical), len(record.outputs)
        model = LoggedModel(schema, tuple(record.outputs), entity)
        self._models[record.family, record.version] = _Collected(model, counts)

    def _predicted(self, record: Prediction) -> None:
        known = self._models.get((record.family, record.version))
        problem = "its model cannot be read" if known is None else misfit(record, *known.counts)
        if known is None or problem:
            self._problems.append(f"request {record.request_id}: {problem}")
            return
        known.predictions.append(record)
        known.rows += record.rows
        if known.rows >= _ROWS_AT_ONCE:
            self._as_rows(record.family, record.version)

    def _as_rows(self, family: str, version: int) -> None:
        known = self._models[family, version]
        if known.predictions:
            rows = family_rows(known.model, known.predictions)
            self._contents.families.setdefault(family, []).append(rows)
            self._models[family, version] = _Collected(known.model, known.counts)

    def _damage(self) -> Happened:
        """Return the event of a damaged segment; the same one each time it is read."""
        return Happened(
            event_id=f"{self._path.stem}-damage",
            at=self._path.stat().st_mtime_ns // 1000,
            kind=str(EventKind.log_damaged),
            message=f"Segment {self._path.name} is damaged. It was shipped as far as it can be "
            f"read, and is kept in the folder refused: {'; '.join(self._problems[:5])}",
            family=None,
            version=None,
            since=None,
            rows=None,
        )
