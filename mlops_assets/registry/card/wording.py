"""Putting recorded values into words, the same way in every section of a model card."""

import inspect
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from mlops_assets.features.duration import format_duration
from mlops_assets.registry.card import content as it

_NOTATION = re.compile(r", as an ISO 8601 duration[^.]*")


def facts(pairs: Iterable[tuple[str, Any]]) -> tuple[it.Fact, ...]:
    """Name values, each as text."""
    return tuple(it.Fact(name=name, value=value_text(value)) for name, value in pairs)


def value_text(value: Any) -> str:
    """Return a recorded value as people read it."""
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        return ", ".join(value_text(one) for one in value)
    return str(value)


def duration(value: timedelta) -> str:
    """Return a duration in whole days or hours, else as ISO 8601."""
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1))):
        if value >= length and not value % length:
            count = value // length
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return format_duration(value)


def words(name: str) -> str:
    """Return a key of a declaration as words."""
    return re.sub(r"[_\s]+", " ", name).strip().capitalize()


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Read what each key of a declaration means from the Attributes of its docstring."""
    _, _, attributes = (inspect.getdoc(model) or "").partition("Attributes\n----------\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(",")]
        for name in names if line.startswith(" ") else ():
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    # How to write the value is of no use beside a value that is written out.
    return {name: _NOTATION.sub("", text).replace("`", "") for name, text in found.items()}
