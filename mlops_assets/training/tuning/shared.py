"""One copy of the data for all worker processes: a file that each maps into its memory."""

import mmap
import pickle
import struct
from pathlib import Path
from typing import Any

_ALIGNMENT = 64
_HEAD = struct.Struct("<QQ")


def write_shared(value: object, path: Path) -> None:
    """Write a value so that its large arrays can be mapped instead of read.

    Parameters
    ----------
    value
        Anything that pickles; arrays and frames are written out of band (PEP 574).
    path
        The file to make.
    """
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    places: list[tuple[int, int]] = []
    with path.open("wb") as file:
        file.seek(_HEAD.size)
        for view in raw:
            file.seek(-file.tell() % _ALIGNMENT, 1)
            places.append((file.tell(), view.nbytes))
            file.write(view)
        index = pickle.dumps((places, body))
        start = file.tell()
        file.write(index)
        file.seek(0)
        file.write(_HEAD.pack(start, len(index)))


def read_shared(path: Path) -> Any:
    """Map what `write_shared` wrote. Changes to its arrays stay in this process.

    Parameters
    ----------
    path
        The file; it may be deleted while it is mapped.
    """
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    start, length = _HEAD.unpack(mapped[: _HEAD.size])
    places, body = pickle.loads(mapped[start : start + length])  # noqa: S301 - our search wrote it
    buffers = [mapped[at : at + size] for at, size in places]
    return pickle.loads(body, buffers=buffers)  # noqa: S301 - as above
