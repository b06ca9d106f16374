"""Segments: the files of the log, each written by one process and shipped when that is done.

The writer holds a lock (``flock``) on its segment for as long as it writes. The system releases it
when the process dies, however that happens, so a segment that can be locked is finished. A segment
gets its name when it is locked and has its first record, so nobody can find one that is neither.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlops_assets.serving.inference_log.frames import Damaged, Intact, Torn, framed, frames
from mlops_assets.serving.inference_log.records import FORMAT, Record, Start, decode, encode

SEGMENTS, REFUSED = "segments", "refused"
_SUFFIX, _UNFINISHED = ".segment", ".starting"
_ABANDONED_S = 3600.0


def new_stream() -> str:
    """Return a name for the segments of this process that no other process has."""
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{started}-{os.getpid()}-{secrets.token_hex(4)}"


class SegmentWriter:
    """One segment while it is written. Not thread-safe, except for `sync`.

    Parameters
    ----------
    folder
        The log's folder.
    stream, sequence
        Name of the writer, and which of its segments this is.

    Attributes
    ----------
    path
        Where it is.
    size
        Bytes in it.
    declared
        Models that it describes already, by family and version.
    first_write
        When the first record came, by the monotonic clock; None before.
    """

    __slots__ = ("_fd", "_torn", "declared", "first_write", "path", "size")

    def __init__(self, folder: Path, stream: str, sequence: int) -> None:
        segments = folder / SEGMENTS
        segments.mkdir(parents=True, exist_ok=True)
        self.path = segments / f"{stream}-{sequence:08d}{_SUFFIX}"
        self.declared: set[tuple[str, int]] = set()
        self.first_write: float | None = None
        self.size = 0
        self._torn = False
        starting = self.path.with_suffix(_UNFINISHED)
        self._fd = os.open(starting, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = time.time_ns() // 1000
            self.write(framed(encode(Start(FORMAT, stream, sequence, now))))
            self.first_write = None
            os.fdatasync(self._fd)
            starting.rename(self.path)
            sync_folder(segments)
        except BaseException:
            os.close(self._fd)
            starting.unlink(missing_ok=True)
            raise

    def write(self, data: bytes) -> None:
        """Add frames, all of them or none.

        Raises
        ------
        OSError
            When the file cannot grow. It then ends where it ended before.
        """
        if self._torn:
            self._cut()
        try:
            done = os.write(self._fd, data)
            while done < len(data):  # a full disk first takes what fits, and refuses the rest
                done += os.write(self._fd, data[done:])
        except OSError:
            self._torn = True
            self._cut()
            raise
        self.size += done
        if self.first_write is None:
            self.first_write = time.monotonic()

    def sync(self) -> None:
        """Have everything written so far survive the loss of power."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Sync, and let the segment be shipped."""
        try:
            os.fdatasync(self._fd)
        finally:
            os.close(self._fd)  # and with it the lock

    @property
    def is_removed(self) -> bool:
        """Whether somebody has deleted the file while it is written."""
        return os.fstat(self._fd).st_nlink == 0

    def _cut(self) -> None:
        os.ftruncate(self._fd, self.size)
        self._torn = False


def finished_segments(folder: Path) -> Iterator[Path]:
    """Yield the segments that nobody writes any more, oldest writer first."""
    segments = folder / SEGMENTS
    if not segments.is_dir():
        return
    for path in sorted(segments.iterdir()):
        try:
            if path.suffix == _UNFINISHED:
                _remove_abandoned(path)
            elif path.suffix == _SUFFIX and _is_unlocked(path):
                yield path
        except FileNotFoundError:
            continue  # it has just been shipped, or got its name


@dataclass(frozen=True)
class Waiting:
    """Finished segments that nobody has shipped yet.

    Attributes
    ----------
    segments, bytes
        How many, and their size together.
    oldest_seconds
        Time since the last record of the oldest; 0 where there is none.
    """

    segments: int
    bytes: int
    oldest_seconds: float


def waiting_segments(folder: Path) -> Waiting:
    """Return what waits to be shipped."""
    found = []
    for path in finished_segments(folder):
        try:
            found.append(path.stat())
        except FileNotFoundError:
            continue  # it has just been shipped
    now = time.time()
    return Waiting(
        segments=len(found),
        bytes=sum(status.st_size for status in found),
        oldest_seconds=max((now - status.st_mtime for status in found), default=0.0),
    )


def read_segment(data: bytes) -> Iterator[Record | Torn | Damaged]:
    """Read the records of a segment, in order.

    Parameters
    ----------
    data
        The whole segment. What cannot be read comes as `Torn` or `Damaged` in its place.
    """
    for frame in frames(data):
        if not isinstance(frame, Intact):
            yield frame
            continue
        try:
            record = decode(frame.payload)
        except ValueError as error:
            size = len(frame.payload)
            yield Damaged(frame.offset, size, f"a record has not the form of this build: {error}")
            continue
        if isinstance(record, Start) and record.format != FORMAT:
            reason = f"its format is {record.format}, and this build reads {FORMAT}"
            yield Damaged(frame.offset, len(data) - frame.offset, reason)
            return
        yield record


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive the loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_unlocked(path: Path) -> bool:
    with path.open("rb") as handle:
        try:
            # Shared: two that look at the same time do not take each other for the writer.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _remove_abandoned(path: Path) -> None:
    """Remove a segment whose writer died before it had a name, which holds no prediction."""
    if time.time() - path.stat().st_mtime > _ABANDONED_S and _is_unlocked(path):
        path.unlink()
