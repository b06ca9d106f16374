"""The record of shipments: which segments are becoming rows, so that they do so exactly once.

A shipment is a numbered set of finished segments. It is written down before its rows are appended
to the lake in transactions with that number, and again when all of them stand; only then are its
segments removed. Whoever comes after a death goes on with the same number and the same segments,
and the lake skips what it has. The numbers belong to a log, named at random when its record is
first made, so that a record that is lost takes no number twice.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Self
from uuid import uuid4

from mlops_assets.file_lock import file_lock
from mlops_assets.serving.inference_log.errors import ShippingError
from mlops_assets.serving.inference_log.segments import sync_folder

_RECORD, _LOCK = "shipments.json", "shipments.lock"


class State(StrEnum):
    """How far a shipment is."""

    appending = "appending"
    removing = "removing"
    done = "done"


@dataclass(frozen=True)
class Shipment:
    """The last shipment of a log.

    Attributes
    ----------
    log
        Name of the log.
    number
        Which shipment, from 1; 0 before the first.
    segments
        Names of its segments.
    state
        How far it is.
    appends
        Commits to each table since it was compacted.
    """

    log: str
    number: int = 0
    segments: tuple[str, ...] = ()
    state: State = State.done
    appends: Mapping[str, int] = field(default_factory=dict)

    @property
    def transaction(self) -> tuple[str, int]:
        """What the lake knows the shipment by."""
        return f"inference-log-{self.log}", self.number

    def next(self, segments: tuple[str, ...]) -> Self:
        """Return the shipment after this one."""
        return replace(self, number=self.number + 1, segments=segments, state=State.appending)

    def before(self) -> Self:
        """Return what the record said before this shipment, which did not take place."""
        return replace(self, number=self.number - 1, segments=(), state=State.done)

    def at(self, state: State) -> Self:
        """Return the shipment as far as ``state``."""
        return replace(self, state=state)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the last shipment of the log in a folder.

        Raises
        ------
        ShippingError
            When the record was changed by hand.
        """
        path = folder / _RECORD
        try:
            stored = json.loads(path.read_text("utf-8"))
            return cls(
                log=stored["log"],
                number=stored["number"],
                segments=tuple(stored["segments"]),
                state=State(stored["state"]),
                appends=stored["appends"],
            )
        except FileNotFoundError:
            return cls(log=uuid4().hex)
        except (KeyError, TypeError, ValueError) as error:
            raise ShippingError(
                f"{path} is no record of shipments ({error!r}), so nothing is shipped. Restore it; "
                "if you cannot, remove it: a shipment that it names may then be shipped twice."
            ) from error

    def write(self, folder: Path) -> None:
        """Write the record down, so that it survives the loss of power."""
        path = folder / _RECORD
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("w", encoding="utf-8") as handle:
            json.dump(asdict(self), handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        unfinished.replace(path)
        sync_folder(folder)


def shipping_lock(folder: Path, *, timeout: float) -> AbstractContextManager[None]:
    """Hold the lock of the one who ships; the system releases it if the process dies.

    Raises
    ------
    ShippingError
        On entering, when another process holds it for longer than ``timeout`` seconds, or the
        folder cannot be written.
    """
    path = folder / _LOCK
    return file_lock(
        path,
        timeout=timeout,
        error=ShippingError,
        when_held=f"Another process has been shipping and held {path} for {timeout:g} s; "
        "nothing is lost, try again when it is done.",
    )
