"""One at a time, among all processes of a machine: a lock that is a file.

The system holds the lock (``flock``) for as long as the file is open, and so releases it when the
process dies, however that happens: no stale lock is ever left to be cleared by hand. What locks the
very file that it writes, and never waits, such as a segment of the inference log, needs no lock
beside it and does not belong here.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ASK_AGAIN_SECONDS = 0.02


@contextmanager
def file_lock(
    path: Path, *, timeout: float, error: type[Exception], when_held: str
) -> Iterator[None]:
    """Hold a lock for the length of the block.

    Parameters
    ----------
    path
        The lock file; made where there is none, with its folder, and left where it is.
    timeout
        Seconds to wait for another holder.
    error
        What to raise when the lock cannot be had.
    when_held
        What the error says when another holder keeps the lock for longer than that.

    Raises
    ------
    Exception
        ``error``, when another holds the lock all that time, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as reason:
        raise error(
            f"{path} cannot be written ({reason.strerror}), so that nothing was changed; "
            "make the folder writable for this user"
        ) from reason
    with file:
        deadline = time.monotonic() + timeout
        while not _locked(file.fileno()):
            if time.monotonic() >= deadline:
                raise error(when_held)
            time.sleep(_ASK_AGAIN_SECONDS)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
