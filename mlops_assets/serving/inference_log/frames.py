"""Frames: how records lie in a segment, so that damage is found and told from a torn tail.

A frame is a header of twelve bytes and a payload. The header holds the payload's length, the
payload's CRC-32, and the CRC-32 of those two; little-endian, four bytes each. Because the header
has a check of its own, a length can be believed: a damaged payload costs one record only, and a
frame that ends behind the file's end was torn by the death of its writer. Here is nothing of what a
payload says.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

_FRONT = struct.Struct("<II")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _FRONT.size + _CHECK.size


@dataclass(frozen=True, slots=True)
class Intact:
    """A frame that is as it was written.

    Attributes
    ----------
    offset
        Where it begins, in bytes.
    payload
        A view into the segment's bytes.
    """

    offset: int
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Torn:
    """The beginning of a frame at the end of a segment; its writer never finished it.

    Attributes
    ----------
    offset, size
        Where it begins, and the bytes that are there.
    """

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes that are not as they were written.

    Attributes
    ----------
    offset, size
        Where, and how many bytes cannot be read because of it.
    reason
        What is wrong with them.
    """

    offset: int
    size: int
    reason: str


def framed(payload: bytes) -> bytes:
    """Return a payload with its header before it."""
    front = _FRONT.pack(len(payload), crc32(payload))
    return front + _CHECK.pack(crc32(front)) + payload


def frames(data: bytes) -> Iterator[Intact | Torn | Damaged]:
    """Find the frames in the bytes of a segment, in order.

    Parameters
    ----------
    data
        A whole segment. `Torn` can only come last; nothing can be found after a `Damaged` header,
        which then comes last too.
    """
    view = memoryview(data)
    offset = 0
    while offset < len(view):
        left = len(view) - offset
        if left < HEADER_BYTES:
            yield Torn(offset, left)
            return
        length, checksum = _FRONT.unpack_from(view, offset)
        (check,) = _CHECK.unpack_from(view, offset + _FRONT.size)
        if crc32(view[offset : offset + _FRONT.size]) != check:
            # A file system may give a file its length before its bytes, which then read as zeros.
            if not any(view[offset:]):
                yield Torn(offset, left)
            else:
                yield Damaged(offset, left, "the header of a frame does not match its check")
            return
        size = HEADER_BYTES + length
        if size > left:
            yield Torn(offset, left)
            return
        payload = view[offset + HEADER_BYTES : offset + size]
        if crc32(payload) == checksum:
            yield Intact(offset, payload)
        else:
            yield Damaged(offset, size, "the bytes of a record do not match their check")
        offset += size
