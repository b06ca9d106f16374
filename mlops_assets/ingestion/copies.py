"""Taking a private copy of a source file: hashed, decompressed, decoded, and standing still.

Everything that reads rows afterwards reads this copy, so that a file which changes while it is
being read is noticed here and nowhere else. The hash is of the raw bytes, as the source has them.
"""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from mlops_assets.ingestion.errors import (
    FileRefusal,
    ScratchError,
    SourceChangedError,
    SourceRefusedError,
    listing,
)
from mlops_assets.ingestion.locations import Location
from mlops_assets.ingestion.sources import Compression, FileSource

_CHUNK = 4 * 2**20
_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.2
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TextFacts:
    """What was noticed in a text while it was copied; it decides how fast it can be read.

    Attributes
    ----------
    lines
        Lines, counting a last one without a line end.
    quotes
        Whether a double quote occurs.
    """

    lines: int
    quotes: bool


@dataclass(frozen=True)
class Copy:
    """A file's private copy.

    Attributes
    ----------
    path
        The copy: decompressed, and where it is text in UTF-8 without a byte-order mark.
    uri, modified_at
        Where it came from, and when that was last changed.
    sha256, size
        Hash and number of the raw bytes.
    text
        Facts about the text; None for Parquet.
    """

    path: Path
    uri: str
    sha256: str
    size: int
    modified_at: datetime | None
    text: TextFacts | None


def take_copy(
    location: Location,
    source: FileSource,
    scratch: Path,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Copy:
    """Copy one file into the scratch folder.

    Parameters
    ----------
    location
        The file.
    source
        Its declaration: compression, encoding, format.
    scratch
        Folder for the copy; the caller removes it.
    pause
        Waits a number of seconds between attempts.

    Raises
    ------
    SourceChangedError
        If the file was changed during every attempt.
    SourceRefusedError
        If it cannot be decompressed or decoded.
    SourceUnavailableError
        If it cannot be read.
    ScratchError
        If the copy cannot be written.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            pause(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        with location.guard():
            before = location.fingerprint()
        problem: SourceRefusedError | None = None
        copy: Copy | None = None
        try:
            copy = _copy_once(location, source, scratch, before.modified_at)
        except SourceRefusedError as refused:
            problem = refused  # of the file as it was, or of one half old and half new?
        with location.guard():
            after = location.fingerprint()
        if before.identity == after.identity:
            if copy is None:
                raise cast("SourceRefusedError", problem)
            return copy
    raise SourceChangedError(
        f"{location.uri} was changed while it was being read, {_ATTEMPTS} times in a row (before "
        f"{before.identity}, after {after.identity}: size, times, inode). Nothing was published. "
        "Let its writer write to another name and rename the file when it is complete, then run "
        "again."
    )


def _copy_once(
    location: Location, source: FileSource, scratch: Path, modified_at: datetime | None
) -> Copy:
    raw_copy = scratch / "source.raw"
    plain_copy = scratch / "source.plain"
    with location.guard():
        opened = location.open()
    with opened:
        raw = _HashingReader(opened, location)
        if source.archive == "zip":  # its directory is at its end, so that it cannot be streamed
            _write(raw.chunks(), raw_copy, scratch)
            content = _zip_chunks(raw_copy, source.member, location.uri, raw)
        else:
            content = _decompressed(raw, source.archive, location.uri)
        facts: TextFacts | None = None
        if source.content == "parquet":
            _write(content, plain_copy, scratch)
        else:
            text = _Text(content, source.encoding, location.uri, raw)
            _write(text.chunks(), plain_copy, scratch)
            facts = text.facts()
        raw.drain()
    raw_copy.unlink(missing_ok=True)
    return Copy(plain_copy, location.uri, raw.sha256, raw.size, modified_at, facts)


@dataclass
class _HashingReader(io.RawIOBase):
    """Reads a file's raw bytes and hashes what passes."""

    inner: BinaryIO
    location: Location
    size: int = 0
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with self.location.guard():
            chunk = self.inner.read(_CHUNK if size is None or size < 0 else size)
        self._hash.update(chunk)
        self.size += len(chunk)
        return chunk

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]  # typeshed names a private protocol
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.read(_CHUNK):
            yield chunk

    def drain(self) -> None:
        """Read what a decompressor left, so that the hash is of the whole file."""
        for _ in self.chunks():
            pass

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def _decompressed(raw: _HashingReader, archive: Compression, uri: str) -> Iterator[bytes]:
    if archive == "none":
        yield from raw.chunks()
        return
    try:
        with _decompressor(raw, archive) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, _DecompressorError) as error:
        raw.drain()
        raise _refused(
            uri,
            raw.sha256,
            rule="compression",
            problem=f"its {archive} data is damaged or cut short: {error}",
            remedy="Fetch or write the file again; compare its size with the original's.",
        ) from error


class _DecompressorError(OSError):
    """The data given to a decompressor is invalid."""


def _opened(raw: _HashingReader, archive: Compression) -> BinaryIO:
    # typeshed names private protocols here, which a raw stream fulfils.
    buffered: Any = io.BufferedReader(raw, _CHUNK)
    if archive == "gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=buffered))
    if archive == "bz2":
        return cast("BinaryIO", bz2.BZ2File(buffered))
    if archive == "xz":
        return cast("BinaryIO", lzma.LZMAFile(buffered))
    import pyarrow as pa

    return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(buffered, "r"), "zstd"))


@contextmanager
def _decompressor(raw: _HashingReader, archive: Compression) -> Iterator[BinaryIO]:
    try:
        with _opened(raw, archive) as stream:
            yield stream
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        # bz2 and Arrow report bad data as a plain OSError; one of the system has a number.
        if error.errno is not None:
            raise
        raise _DecompressorError(str(error)) from error


def _zip_chunks(path: Path, member: str | None, uri: str, raw: _HashingReader) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            if member is None and len(names) == 1:
                member = names[0]
            if member is None or member not in names:
                asked = "no `member` is declared" if member is None else f"none is {member!r}"
                raise _refused(
                    uri,
                    raw.sha256,
                    rule="zip_member",
                    problem=f"the archive holds {len(names)} files and {asked}: {listing(names)}",
                    remedy="Name one of them as `member`.",
                )
            with archive.open(member) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _refused(
            uri,
            raw.sha256,
            rule="compression",
            problem=f"its zip data is damaged, cut short or encrypted: {error}",
            remedy="Fetch or write the file again; compare its size with the original's.",
        ) from error


class _Text:
    """Passes text on as UTF-8 and notes what the readers need to know of it."""

    def __init__(
        self, content: Iterator[bytes], encoding: str, uri: str, raw: _HashingReader
    ) -> None:
        self._content = content
        self._encoding = encoding
        self._uri = uri
        self._raw = raw
        self._newlines = 0
        self._offset = 0
        self._quotes = False
        self._last = b""

    def chunks(self) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self._encoding)()
        first = True
        for chunk in self._content:
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise self._undecodable(error, chunk) from error
            out = text.encode("utf-8")
            if first and out:
                out = out.removeprefix(_UTF8_MARK)
                first = False
            if (nul := out.find(b"\0")) >= 0:
                line = self._newlines + out.count(b"\n", 0, nul) + 1
                raise self._refused(
                    "nul_bytes",
                    f"line {line} holds a NUL byte, so this is not text in {self._encoding}",
                    "Check `encoding` (UTF-16 has NUL bytes), or whether the file was cut short "
                    "by a crash of its writer.",
                )
            self._newlines += out.count(b"\n")
            self._quotes = self._quotes or b'"' in out
            self._last = out[-1:] or self._last
            self._offset += len(chunk)
            yield out
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise self._undecodable(error, b"") from error

    def facts(self) -> TextFacts:
        unfinished = self._last not in {b"", b"\n"}
        return TextFacts(self._newlines + unfinished, self._quotes)

    def _undecodable(self, error: UnicodeDecodeError, chunk: bytes) -> SourceRefusedError:
        # What the decoder was given is this chunk behind the undecoded rest of the one before.
        kept = len(error.object) - len(chunk)
        offset = self._offset - kept + error.start
        line = self._newlines + error.object.count(b"\n", 0, error.start) + 1
        bad = error.object[error.start : error.start + 8].hex(" ")
        return self._refused(
            "encoding",
            f"line {line}, byte {offset} of the text is not valid {self._encoding}: {error.reason}",
            "Declare the file's `encoding` (often cp1252 or latin-1), or have it written in UTF-8.",
            value=f"bytes {bad}",
        )

    def _refused(
        self, rule: str, problem: str, remedy: str, value: str | None = None
    ) -> SourceRefusedError:
        self._raw.drain()
        return _refused(
            self._uri, self._raw.sha256, rule=rule, problem=problem, remedy=remedy, value=value
        )


def _refused(
    uri: str, sha256: str, *, rule: str, problem: str, remedy: str, value: str | None = None
) -> SourceRefusedError:
    return SourceRefusedError(
        [
            FileRefusal(
                uri, rule=rule, problem=problem, remedy=remedy, source_hash=sha256, value=value
            )
        ],
        files=1,
    )


def _write(chunks: Iterator[bytes], target: Path, scratch: Path) -> None:
    with scratch_space(scratch):
        out = target.open("wb")
    with out:
        for chunk in chunks:
            with scratch_space(scratch):
                out.write(chunk)
        with scratch_space(scratch):
            out.flush()


@contextmanager
def scratch_space(scratch: Path) -> Iterator[None]:
    """Turn a failing write into the scratch folder into an error that says so."""
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(scratch).free // 2**20 if scratch.exists() else 0
        raise ScratchError(
            f"the staged copy cannot be written to {scratch}: {error.strerror or error} ({free} "
            "MiB free). Nothing was published. Free some space there or move the scratch folder, "
            "then run again."
        ) from error
