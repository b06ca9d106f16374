"""Keeping secrets out of errors: passwords in URLs, and values of keys that are named so."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase|code)?$|pwd|secret|token|credential|signature"
    r"|(api|access|account|private|shared|encryption)[_-]?key",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?P<before>//[^/@:?#\s]*:)(?P<secret>[^\s'\"]*)(?=@)")
_NAMED = re.compile(
    r"(?P<before>\b[\w-]*(?:password|passwd|pwd|secret|token|credential|signature|api[_-]?key"
    r"|access[_-]?key|\bsig)[\w-]*\s*[=:]\s*)(?P<secret>[^\s&;,'\"]+)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\$\{\w+\}")


def is_secret_name(name: object) -> bool:
    """Whether a key is named like one that holds a secret."""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def without_secrets(text: str, document: Any = None) -> str:
    """Return a text with every secret in it replaced by ``***``.

    Parameters
    ----------
    text
        To be shown. Passwords in URLs and what follows ``password=`` and the like are hidden.
    document
        A declaration whose secret values are hidden too, wherever in the text they stand.
    """
    for secret in sorted(set(_secrets(document)), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern in (_URL_PASSWORD, _NAMED):
        text = pattern.sub(_hide, text)
    return text


def _hide(found: re.Match[str]) -> str:
    # A reference such as ${DB_PASSWORD} is what a user should write, and no secret.
    return found[0] if _REFERENCE.fullmatch(found["secret"]) else f"{found['before']}{HIDDEN}"


def _secrets(value: Any, *, named: bool = False) -> Iterator[str]:
    """Yield every secret value in a document, but for those too short to be told from words."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, named=named or is_secret_name(key))
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, named=named)
    elif value is not None and not isinstance(value, bool):
        text = str(value)
        found = _URL_PASSWORD.search(text)
        for secret in [text] if named else [found["secret"]] if found else []:
            if len(secret) > 3 and not _REFERENCE.fullmatch(secret):
                yield secret
