"""A private folder for one ingestion, which does not outlive it, even after a SIGKILL.

Each folder is locked by the process that uses it. The kernel lets go of the lock when that process
ends, however it ends, so that the next ingestion can tell an abandoned folder from one in use.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlops_assets.ingestion.copies import scratch_space

_PREFIX = "ingest-"
_LOCK = ".lock"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give an empty folder below ``parent``, and remove it at the end.

    Folders that a killed process left behind are removed first.

    Raises
    ------
    ScratchError
        If the folder cannot be made.
    """
    with scratch_space(parent):
        parent.mkdir(parents=True, exist_ok=True)
        # One at a time, so that nobody sweeps a folder that is made and not locked yet.
        with (parent / f"{_PREFIX}lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            _sweep(parent)
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            lock = (folder / _LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what stays, the next ingestion sweeps


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*/"):
        with suppress(FileNotFoundError), (folder / _LOCK).open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # in use
            shutil.rmtree(folder, ignore_errors=True)
