"""Small files that commands change and running servers watch: who may call, who answers whom.

A change is atomic, made by one process at a time, and on disk before it is said to be done. A
server reads such a file at start and then notices changes by looking at the file's stat from time
to time; a file that became wrong or went away changes nothing but is reported, once.
"""

import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Generic, TypeVar
from uuid import uuid4

from mlops_assets.file_lock import file_lock

Content = TypeVar("Content")
Report = Callable[[str, str, Mapping[str, object]], None]
"""Takes an event: its kind, a sentence for people, and what belongs to it."""

LOOK_SECONDS = 0.5
"""How often a watched file's stat is looked at."""


class StateFileError(RuntimeError):
    """A file that the server's state lives in cannot be read, trusted or changed."""


_Signature = tuple[int, int, int] | None
_SETTLED_NANOSECONDS = 100_000_000
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_text(path: Path) -> str | None:
    """Read a state file.

    Returns
    -------
    str or None
        Its text; None where there is no such file.

    Raises
    ------
    StateFileError
        When it cannot be read, is no UTF-8, or other users of the machine may write it.
    """
    try:
        with path.open("rb") as handle:
            mode = os.fstat(handle.fileno()).st_mode
            content = handle.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateFileError(f"{path} cannot be read ({error.strerror}); mend that") from error
    if mode & _OTHERS_MAY_WRITE:
        raise StateFileError(
            f"{path} may be written by other users (mode {stat.S_IMODE(mode):o}), so that it "
            f"cannot be trusted; look at what it says, then `chmod 600 {path}`"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise StateFileError(f"{path} is no UTF-8 text ({error.reason}); restore it") from error


def replace_text(path: Path, text: str) -> None:
    """Put a text in place of a state file, whole or not at all, readable by this user alone.

    Raises
    ------
    StateFileError
        When it cannot be written; the file stands as it was.
    """
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a crash of the machine may bring the old file back
        finally:
            os.close(folder)
    except OSError as error:
        raise StateFileError(
            f"{path} cannot be written ({error.strerror}); it stands as it was. "
            "Make room, or the folder writable for this user, and try again"
        ) from error


def sole_writer(path: Path, *, timeout: float = 10.0) -> AbstractContextManager[None]:
    """Be the only process that changes a state file; the system ends that if the process dies.

    Parameters
    ----------
    path
        The state file; the lock is a file beside it.
    timeout
        Seconds to wait for another writer.

    Raises
    ------
    StateFileError
        On entering, when another process still holds it after that time, or the folder cannot be
        written.
    """
    return file_lock(
        path.with_name(f"{path.name}.lock"),
        timeout=timeout,
        error=StateFileError,
        when_held=f"{path}: another process has been changing it for {timeout:g} s; "
        "try again when it is done",
    )


class WatchedFile(Generic[Content]):
    """What a state file says, kept up to date.

    Parameters
    ----------
    path
        The file; it need not exist.
    read
        Reads it; an absent file must give what holds then.
    report
        Is told when the file became wrong or went away, as ``WHAT_unreadable``, and when it is
        right again, as ``WHAT_readable``.
    what
        Name of what it holds, such as ``tokens``.
    clock
        Seconds that only rise.

    Raises
    ------
    StateFileError
        When the file is wrong from the start: a server must not start on it.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], Content],
        report: Report,
        *,
        what: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._read, self._report, self._clock = path, read, report, clock
        self._what = what
        self._seen = self._settled(_signature(path))
        self._content = read(path)
        self._wrong: str | None = None
        self._next_look = clock() + LOOK_SECONDS

    def current(self) -> Content:
        """Return what the file says, or what it last said while it was right."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look()
        return self._content

    def _look(self) -> None:
        signature = _signature(self._path)
        if signature == self._seen and self._wrong is None:
            return
        if signature is None:
            self._keep(f"{self._path} is gone; what it said last still holds")
            return
        try:
            content = self._read(self._path)
        except StateFileError as error:
            self._keep(str(error))
            return
        was_wrong, self._wrong = self._wrong is not None, None
        self._content, self._seen = content, self._settled(signature)
        if was_wrong:
            self._tell("readable", f"{self._path} is right again, and holds")

    def _keep(self, wrong: str) -> None:
        """Say, once, why what was read before still holds."""
        if wrong != self._wrong:
            self._wrong = wrong
            self._tell("unreadable", wrong)

    def _tell(self, how: str, message: str) -> None:
        self._report(f"{self._what}_{how}", message, {"path": str(self._path)})

    @staticmethod
    def _settled(signature: _Signature) -> _Signature:
        """Distrust a signature so new that a second change could leave it the same."""
        if signature is not None and time.time_ns() - signature[1] < _SETTLED_NANOSECONDS:
            return (-1, -1, -1)
        return signature


def _signature(path: Path) -> _Signature:
    """Tell one state of a file from another; None where there is none, or none to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, max(found.st_mtime_ns, found.st_ctime_ns), found.st_size
