"""What the arms of a canary have seen: each worker counts in a small file of its own.

A file is one record, overwritten in place with one write, so that it costs about a microsecond and
needs no lock; it is in the page cache at once, so that a killed worker's counts stay. The sum over
an experiment's folder is what the test judges.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from mlops_assets.serving.routing.sequential import NOTHING_SEEN, Tally

_SUFFIX = ".counts"
# Per arm: requests, failures, outcomes, and the sum of their losses.
_RECORD = struct.Struct("<QQQdQQQd")


class Arm(StrEnum):
    """Who answers a request of a canary's family."""

    champion = "champion"
    canary = "canary"


@dataclass(frozen=True)
class ArmCounts:
    """What one arm has seen.

    Attributes
    ----------
    failures
        Of its requests.
    losses
        Of the realised outcomes of its answers, each between 0 and 1.
    """

    failures: Tally = NOTHING_SEEN
    losses: Tally = NOTHING_SEEN

    def __add__(self, other: "ArmCounts") -> "ArmCounts":
        return ArmCounts(self.failures + other.failures, self.losses + other.losses)


class ArmCounter:
    """Counts for one process.

    Parameters
    ----------
    folder
        Of the experiment; made if it is not there.

    Raises
    ------
    OSError
        When no file can be made there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._seen: dict[Arm, list[float]] = {arm: [0, 0, 0, 0.0] for arm in Arm}
        path = folder / f"{uuid4().hex}{_SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._write()

    def request(self, arm: Arm, *, failed: bool) -> None:
        """Count a request that an arm answered, or failed to answer."""
        seen = self._seen[arm]
        seen[0] += 1
        seen[1] += failed
        self._write()

    def outcome(self, arm: Arm, loss: float) -> None:
        """Count the loss of an answer whose truth became known.

        Raises
        ------
        ValueError
            When the loss does not lie between 0 and 1.
        """
        if not 0 <= loss <= 1:
            raise ValueError(f"a loss of {loss} does not lie between 0 and 1; scale it by a bound")
        seen = self._seen[arm]
        seen[2] += 1
        seen[3] += loss
        self._write()

    def close(self) -> None:
        """Count no more; what was counted stays."""
        os.close(self._file)

    def _write(self) -> None:
        # In place, and no longer than before: a full disk does not keep it from being written.
        os.pwrite(self._file, _RECORD.pack(*self._seen[Arm.champion], *self._seen[Arm.canary]), 0)


def read_counts(folder: Path) -> dict[Arm, ArmCounts]:
    """Add up what all processes counted for an experiment; nothing where none did."""
    total = dict.fromkeys(Arm, ArmCounts())
    for content in _contents(folder.glob(f"*{_SUFFIX}")):
        values = _RECORD.unpack(content)
        for arm, (requests, failures, outcomes, loss) in zip(
            Arm, (values[:4], values[4:]), strict=True
        ):
            seen = ArmCounts(Tally(requests, failures), Tally(outcomes, min(loss, outcomes)))
            total[arm] += seen
    return total


def _contents(paths: Iterable[Path]) -> Iterable[bytes]:
    for path in paths:
        content = path.read_bytes()
        if len(content) == _RECORD.size:  # shorter only while it is being made
            yield content
