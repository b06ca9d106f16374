"""A study's file: Optuna's journal, one operation a line, with one writer while it is open.

Optuna's own file backend was tried and is not used. It takes a lock file for each line, and one
that a killed process left behind stalls the next search for half a minute; a line cut short by a
full disk makes the file unreadable for good; and it waits for the disk after every reported
iteration, which came to 0.17 s a trial (SQLite: 1.4 s). Here the system holds the lock and drops it
with the process, a torn last line is cut off, and the disk is waited for once a trial. The format
is the same, so Optuna's tools read the file.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from optuna.storages.journal import BaseJournalBackend

from mlops_assets.training.tuning.result import TuningError


class Journal(BaseJournalBackend):
    """The open file of one study.

    A process may be killed at any moment: what was appended before is there. After a power cut, the
    trials that ended before the last `sync` are.

    Parameters
    ----------
    path
        The file; made where there is none, with its folder.

    Raises
    ------
    TuningError
        When another search has it open, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets = [0]  # where line number i begins
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise TuningError(f"{path}: the study's file cannot be opened: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise TuningError(
                f"{path}: another search of this study is running; wait for it or end it"
            ) from None
        self._cut_torn_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sync()
        self._file.close()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Give the operations from that number on."""
        self._file.seek(self._offsets[log_number_from])
        # A copy of the rest: operations are appended while the caller is at it.
        for number, line in enumerate(self._file.read().splitlines(), start=log_number_from + 1):
            if number == len(self._offsets):
                self._offsets.append(self._offsets[-1] + len(line) + 1)
            try:
                operation: dict[str, Any] = json.loads(line)
            except ValueError as error:
                raise TuningError(
                    f"{self._path}: line {number} is no journal entry: {error}. The file was "
                    "changed by something else; move it away to search anew"
                ) from error
            yield operation

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations, with one write."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        data = text.encode()
        if (written := self._file.write(data)) != len(data):
            raise TuningError(
                f"{self._path}: only {written} of {len(data)} bytes could be written; is the disk "
                "full? Make room and search again: it goes on where it stopped"
            )

    def sync(self) -> None:
        """Wait until all that was appended is on the disk."""
        os.fsync(self._file.fileno())

    def _cut_torn_line(self) -> None:
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        if whole < self._file.seek(0, os.SEEK_END):
            self._file.truncate(whole)
