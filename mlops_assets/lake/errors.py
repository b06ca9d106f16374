"""What can go wrong with a table of the lake, one class for one thing a caller may want to handle.

Here is also the one place that reads the texts of delta-rs and of the operating system to tell
which of these happened; nothing else in the package looks at an error's wording.
"""

import errno
import re


class LakeError(Exception):
    """Base of every error of the lake: says what, where, with which value, and what to do next."""


class TableNameError(LakeError, ValueError):
    """A text is not the name of a table, or not the name of a version of one."""


class WindowError(LakeError, ValueError):
    """A window is not a proper half-open interval, or does not fit the column it names."""


class TableNotFoundError(LakeError, LookupError):
    """There is no table of this name."""


class TableExistsError(LakeError):
    """There is already a table of this name."""


class VersionNotFoundError(LakeError, LookupError):
    """The table has no such version, or its files are gone."""


class SchemaMismatchError(LakeError):
    """The columns given are not the columns stored, and no schema change was asked for."""


class UnsupportedTypeError(LakeError, TypeError):
    """A column has a type that Delta Lake cannot store."""


class InvalidRowsError(LakeError, ValueError):
    """Rows break a rule of the write itself: outside the window, a null or a duplicate in a key."""


class ConcurrentWriteError(LakeError):
    """Other writers kept winning; nothing was written."""


class StorageFullError(LakeError, OSError):
    """No space: the disk, a quota or a file-size limit; the table stands at its old version."""


class StorageReadOnlyError(LakeError, OSError):
    """The lake is read-only, or this user may not write it; the table stands as it was."""


class DataFileMissingError(LakeError):
    """A data file that the table's version names is not there."""


class RetentionError(LakeError, ValueError):
    """A vacuum was asked to remove what a running reader or writer may still need."""


_OS_ERROR = re.compile(r"\(os error (\d+)\)|Os \{ code: (\d+)")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR}
_NOISE = re.compile(r"\n\s+\d+: <?\w.*|\x1b\[\d*m", re.DOTALL)  # a backtrace, and colours


def from_storage(error: BaseException, what: str, uri: str) -> LakeError:
    """Translate an error of delta-rs, Arrow or the operating system.

    Parameters
    ----------
    error
        What was raised.
    what
        What was being done, such as ``write raw/flights``.
    uri
        Where; it ends up in the message.

    Returns
    -------
    LakeError
        To be raised ``from error``.
    """
    text = " ".join(_NOISE.sub("", str(error)).split())
    number = _errno(error, text)
    if number in _FULL:
        return StorageFullError(
            f"Cannot {what}: no space left at {uri} ({text}). The table stands as it was. "
            "Free space there (`mlops tables vacuum` removes old versions), then run again."
        )
    if number in _READ_ONLY:
        return StorageReadOnlyError(
            f"Cannot {what}: {uri} cannot be written ({text}). The table stands as it was. "
            "Make the folder writable for this user, or set MLOPS_LAKE_URI to one that is."
        )
    if number == errno.ENOENT:
        return DataFileMissingError(
            f"Cannot {what}: a file that the table names is missing under {uri} ({text}). "
            "Restore the table to a version whose files are all there."
        )
    return LakeError(f"Cannot {what} at {uri}: {text}")


def _errno(error: BaseException, text: str) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _OS_ERROR.search(text)
    return int(match[1] or match[2]) if match else None
