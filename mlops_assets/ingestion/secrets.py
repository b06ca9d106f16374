"""Secrets in declarations: ``${NAME}`` is replaced when a source is read, and never shown.

What belongs to one source's credentials is read from the environment here, at the last moment, so
that no model, log, metadata or error ever holds it. Settings of the platform are in ``settings``.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from mlops_assets.ingestion.errors import DeclarationError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PASSWORD = re.compile(r"^[^/?#]*?//[^/@:?#]*:(?P<password>[^@]*)@")
_HIDDEN = "***"


def literal_password(url: str) -> bool:
    """Whether a URL holds a password that is not a ``${NAME}`` reference."""
    found = _PASSWORD.match(url)
    return found is not None and bool(_REFERENCE.sub("", found["password"]))


def without_credentials(url: str) -> str:
    """Return a URL without user, password and query, which may hold a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True)
class Secrets:
    """Texts with their references filled in, and the values that must not be shown.

    Attributes
    ----------
    hidden
        Every value that was filled in, as is and as it stands in a URL.
    """

    hidden: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def fill(cls, value: Any, where: str) -> tuple[Any, "Secrets"]:
        """Replace every ``${NAME}`` in a text, or in the texts of a dict or list.

        Parameters
        ----------
        value
            What the declaration holds.
        where
            Key of the declaration, for the error text.

        Raises
        ------
        DeclarationError
            If a variable is not set.
        """
        hidden: set[str] = set()

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name not in os.environ:
                raise DeclarationError(
                    f"{where} refers to ${{{name}}}, and the environment has no variable {name}. "
                    "Set it for the process that reads this source."
                )
            hidden.add(os.environ[name])
            return os.environ[name]

        def walk(item: Any) -> Any:
            if isinstance(item, str):
                return _REFERENCE.sub(replace, item)
            if isinstance(item, dict):
                return {key: walk(entry) for key, entry in item.items()}
            if isinstance(item, list):
                return [walk(entry) for entry in item]
            return item

        filled = walk(value)
        return filled, cls(frozenset(_spellings(hidden)))

    def scrub(self, text: str) -> str:
        """Replace every secret value in a text by ``***``."""
        for secret in sorted(self.hidden, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return text


def _spellings(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        if value:
            yield value
            yield quote(value, safe="")
            yield repr(value)[1:-1]
