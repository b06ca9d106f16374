"""Finding the files of a declaration, and opening them: local paths, package data, URLs.

Only finding belongs here. What a file holds, and whether it stood still while it was read, is the
business of ``copies``.
"""

import glob
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from mlops_assets.ingestion.errors import SourceNotFoundError, SourceUnavailableError, listing
from mlops_assets.ingestion.periods import PathPattern, Period, midnight
from mlops_assets.ingestion.secrets import Secrets, without_credentials
from mlops_assets.ingestion.sources import FileSource

if TYPE_CHECKING:
    from mlops_assets.lake import Window


@dataclass(frozen=True)
class Fingerprint:
    """What tells that a file was changed without reading it again.

    Attributes
    ----------
    identity
        Size, times of writing and of change, and inode; or what the object store offers instead.
    modified_at
        Time of the last change, where the store tells.
    """

    identity: str
    modified_at: datetime | None


@dataclass(frozen=True)
class Location:
    """One file that a source names.

    Attributes
    ----------
    uri
        Its name in provenance and messages: relative to the project root where it lies inside,
        ``package:NAME/PATH`` for package data, and never with credentials.
    period
        The period its name says it covers, if the declaration has a ``{date}``.
    fingerprint
        Reads its state.
    open
        Opens it for reading bytes.
    guard
        Wraps whatever reads it, and turns the store's own errors into `SourceUnavailableError`.
    """

    uri: str
    period: Period | None
    fingerprint: Callable[[], Fingerprint]
    open: Callable[[], BinaryIO]
    guard: Callable[[], AbstractContextManager[None]]


def locate(source: FileSource, *, root: Path, window: "Window | None") -> tuple[Location, ...]:
    """Find the files to read, in a stable order.

    Parameters
    ----------
    source
        The declaration.
    root
        Folder from which a relative path counts.
    window
        With a ``{date}`` in the path, only files whose period overlaps it are found.

    Raises
    ------
    SourceNotFoundError
        If the source is required and no file, or not every period's file, is there.
    SourceUnavailableError
        If a URL cannot be listed.
    """
    pattern = PathPattern.parse(source.path)
    store = _Remote.connect(source) if source.is_url else _Local.under(source, root)
    if pattern.step is None:
        found = [store.location(path, None) for path in store.match(source.path)]
        missing = [] if found else [source.path]
    elif window is None:
        listed = (
            (path, pattern.period(store.declared(path))) for path in store.match(pattern.glob)
        )
        found = [store.location(path, period) for path, period in listed if period is not None]
        missing = [] if found else [source.path]
    else:
        found, missing = [], []
        for name, period in pattern.paths(midnight(window.start), midnight(window.end)):
            paths = store.match(name)
            found += [store.location(path, period) for path in paths]
            missing += [] if paths else [name]
    if source.required and missing:
        names = [without_credentials(name) if source.is_url else name for name in missing]
        raise SourceNotFoundError(
            f"no file in {store.shown} matches {listing(names)}. "
            "Correct `path`, or say `required: false` if a missing file means zero rows."
        )
    return tuple(sorted(found, key=lambda location: location.uri))


@dataclass(frozen=True)
class _Local:
    """Files below a folder of this machine."""

    folder: Path
    root: Path
    prefix: str

    @classmethod
    def under(cls, source: FileSource, root: Path) -> "_Local":
        if source.package is not None:
            return cls(_package_folder(source.package), root, f"package:{source.package}/")
        return cls(Path("/") if Path(source.path).is_absolute() else root.resolve(), root, "")

    @property
    def shown(self) -> str:
        return str(self.folder)

    def match(self, name: str) -> list[str]:
        if (self.folder / name).is_file():  # also a name that holds glob characters
            return [name]
        # Path.glob cannot start below a folder whose own name holds glob characters as it is.
        names = glob.glob(  # noqa: PTH207
            name.lstrip("/"), root_dir=self.folder, recursive=True
        )
        return [found for found in names if (self.folder / found).is_file()]

    def declared(self, path: str) -> str:
        return f"/{path}" if self.folder == Path("/") else path

    def location(self, path: str, period: Period | None) -> Location:
        full = self.folder / path
        uri = self.prefix + path if self.prefix else _shown(full, self.root.resolve())
        return Location(
            uri, period, lambda: _stat(full), lambda: full.open("rb"), lambda: _local_guard(uri)
        )


@dataclass(frozen=True)
class _Remote:
    """Files at a URL, through fsspec."""

    files: Any
    scheme: str
    depth: int
    secrets: Secrets
    shown: str

    @classmethod
    def connect(cls, source: FileSource) -> "_Remote":
        import fsspec

        options, secrets = Secrets.fill(source.storage_options, "storage_options")
        scheme, _, rest = source.path.partition("://")
        shown = without_credentials(source.path).rpartition("/")[0]
        with _remote_guard(shown, secrets):
            files, _ = fsspec.core.url_to_fs(source.path, **options)
        return cls(files, scheme, rest.count("/"), secrets, shown)

    def match(self, name: str) -> list[str]:
        with _remote_guard(without_credentials(name), self.secrets):
            inner = str(self.files._strip_protocol(name))  # noqa: SLF001 - fsspec has no public one
            # A web server cannot list, and '?' starts a query there.
            if PathPattern.parse(name).is_glob and not self.scheme.startswith("http"):
                return sorted(str(path) for path in self.files.glob(inner))
            return [inner] if self._exists(inner) else []

    def _exists(self, path: str) -> bool:
        """Tell a file that is not there from a store that cannot be asked.

        fsspec's own ``exists`` answers no to both, and then a server that is down would be a day
        without rows.
        """
        try:
            if self.scheme.startswith("http"):
                self.files.open(path, "rb", block_size=0).close()
                return True
            return bool(self.files.info(path)["type"] == "file")
        except FileNotFoundError as error:
            # For HTTP, fsspec says so of every failure, and gives the true one as the cause.
            cause = error.__cause__
            if cause is None or isinstance(cause, FileNotFoundError):
                return False
            if getattr(cause, "status", None) in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                return False
            raise cause from None

    def declared(self, path: str) -> str:
        tail = path.strip("/").split("/")[-self.depth - 1 :]
        return f"{self.scheme}://{'/'.join(tail)}"

    def location(self, path: str, period: Period | None) -> Location:
        uri = without_credentials(str(self.files.unstrip_protocol(path)))

        # From a web server as one stream: not each can send ranges.
        options = {"block_size": 0} if self.scheme.startswith("http") else {}
        return Location(
            uri,
            period,
            lambda: _remote_state(self.files, path),
            lambda: cast("BinaryIO", self.files.open(path, "rb", **options)),
            lambda: _remote_guard(uri, self.secrets),
        )


@contextmanager
def _local_guard(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceUnavailableError(
            f"{uri} cannot be read: {error.strerror or error}. Nothing was published. Check that "
            "it exists and may be read by this user, then run again."
        ) from error


@contextmanager
def _remote_guard(uri: str, secrets: Secrets) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each store raises its own library's errors
        raise _unreachable(uri, error, secrets) from None  # its text may hold a secret


def _unreachable(shown: str, error: Exception, secrets: Secrets) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"{shown} cannot be read: {secrets.scrub(f'{type(error).__name__}: {error}')}. "
        "Check the URL, the network and `storage_options`, then run again."
    )


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _stat(path: Path) -> Fingerprint:
    state = path.stat()
    return Fingerprint(
        # The time of change as well: tools that copy or unpack set the time of writing back.
        f"{state.st_size}-{state.st_mtime_ns}-{state.st_ctime_ns}-{state.st_ino}-{state.st_dev}",
        datetime.fromtimestamp(state.st_mtime, tz=UTC),
    )


def _package_folder(package: str) -> Path:
    # Only the outermost name is looked up: finding a sub-package would import its parents.
    top, *inner = package.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise SourceNotFoundError(
            f"package {package!r} is not installed in this environment, so its data cannot be "
            f"read. Install it, or correct `package`."
        )
    return Path(spec.submodule_search_locations[0], *inner)


def _remote_state(files: Any, path: str) -> Fingerprint:
    files.invalidate_cache()
    info = files.info(path)
    keys = ("size", "ETag", "etag", "mtime", "created", "LastModified", "md5Hash", "generation")
    identity = "-".join(str(info[key]) for key in keys if info.get(key) is not None)
    try:
        modified = files.modified(path)
    except (NotImplementedError, KeyError):  # HTTP, for one, has no such call
        modified = None
    if isinstance(modified, datetime) and modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)
    return Fingerprint(identity, modified if isinstance(modified, datetime) else None)
