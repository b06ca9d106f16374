"""One thing that is wrong with a declaration, and the words in which a wrong name is told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mlops_assets.declaration.allowed import did_you_mean

Key = str | int
_LISTED = 25  # names in a message


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a declaration.

    Attributes
    ----------
    keys
        From the document's root down to the offending key; a number is a place in a list.
    text
        What is wrong, with the value and what is allowed. It holds no secret.
    missing
        The key that is not there, if that is what is wrong.
    """

    keys: tuple[Key, ...]
    text: str
    missing: tuple[Key, ...] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        path = key_path(self.keys)
        return f"{path}: {self.text}" if path else self.text


def key_path(keys: Sequence[Key]) -> str:
    """Write a path of keys as people do: ``features[0].view``."""
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return path.removeprefix(".")


def unknown_key(key: object, known: Sequence[str]) -> str:
    """Say that a key is unknown, with the nearest valid one and all of them."""
    hint = did_you_mean(str(key), known) or "."
    return f"unknown key{hint} Allowed: {', '.join(known)}."


def unknown_name(name: str, what: str, known: Iterable[str]) -> str:
    """Say that there is nothing of a name, with the nearest name and those that there are.

    Parameters
    ----------
    name
        What was written.
    what
        What it was to be: ``column of marts/flights``.
    known
        The names that there are; of many, the first are listed.
    """
    names = list(dict.fromkeys(known))
    more = ", ..." if len(names) > _LISTED else ""
    there = f"There are {', '.join(names[:_LISTED])}{more}." if names else "There is none."
    return f"{name!r} is no {what}{did_you_mean(name, names) or '.'} {there}"
