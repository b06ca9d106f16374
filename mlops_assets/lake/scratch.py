"""A private folder below the scratch folder, which does not outlive its user, even a killed one.

Each folder is locked by the process that uses it. The kernel lets go of the lock when that process
ends, however it ends, so that the next user can tell an abandoned folder from one in use.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".lock"


@contextmanager
def private_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Give an empty folder below ``parent``, and remove it at the end.

    Folders of the same prefix that a killed process left behind are removed first.

    Parameters
    ----------
    prefix
        Begins the folder's name and says whose it is, such as ``ingest-``.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    # One at a time, so that nobody sweeps a folder that is made and not locked yet.
    with (parent / f"{prefix}lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        _sweep(parent, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = (folder / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what stays, the next user sweeps


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*/"):
        with suppress(FileNotFoundError), (folder / _LOCK).open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # in use
            shutil.rmtree(folder, ignore_errors=True)
