"""Keeping secrets and tracebacks out of the log, whoever writes to it."""

import logging
import re
import traceback
from collections.abc import Mapping
from itertools import islice
from typing import Any

from mlops_assets.serving.security.tokens import PREFIX

HIDDEN = "***"
_SECRET = re.compile(
    rf"(?P<before>\bbearer\s+)[^\s'\",;]+|{PREFIX}[A-Za-z0-9_-]{{43}}", re.IGNORECASE
)
_FRAMES = 4


def redact(text: str) -> str:
    """Replace bearer tokens in a text by ``***``."""
    return _SECRET.sub(lambda found: (found["before"] or "") + HIDDEN, text)


def where(error: BaseException) -> str:
    """Say of an error what it is and where it arose, without its message.

    The message may quote what a caller sent; the place is enough to find the bug.

    Returns
    -------
    str
        Such as ``ValueError at scoring.py:71 in answers < app.py:90 in predict``.
    """
    frames = reversed(traceback.extract_tb(error.__traceback__))
    places = [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name}"
        for frame in islice(frames, _FRAMES)
    ]
    return f"{type(error).__qualname__} at {' < '.join(places) or 'an unknown place'}"


def guard_logs() -> None:
    """Have every log record of this process made without bearer tokens and tracebacks.

    It works on records as they are made, so that it holds for any logger and any handler, also
    for those that a library adds later. Calling it twice changes nothing.
    """
    make = logging.getLogRecordFactory()
    if isinstance(make, _Redacting):
        return
    logging.setLogRecordFactory(_Redacting(make))


class _Redacting:
    """Makes log records by another factory, and cleans them."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*args, **kwargs)
        _redact_message(record)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            place = where(error)
            # A per cent sign in the place must not be taken for the place of an argument.
            place = place.replace("%", "%%") if record.args else place
            record.msg = f"{str(record.msg).rstrip()} ({place})"
        record.exc_info = record.exc_text = record.stack_info = None
        return record


def _redact_message(record: logging.LogRecord) -> None:
    """Take secrets out of a record.

    Its arguments stay apart from its message where they can, because formatters of access logs
    pick them one by one.
    """
    given = record.args
    if isinstance(given, Mapping):
        record.args = {name: _redacted(value) for name, value in given.items()}
    elif given:
        record.args = tuple(map(_redacted, given))
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit; logging would show them
        message = f"{record.msg} {given}"
        record.msg, record.args = redact(message), None
        return
    redacted = redact(message)
    if redacted != message:
        record.msg, record.args = redacted, None


def _redacted(value: Any) -> Any:
    """Return a value as it is, or its redacted text where that holds a secret."""
    if isinstance(value, int | float):
        return value
    text = str(value)
    redacted = redact(text)
    return value if redacted == text else redacted
