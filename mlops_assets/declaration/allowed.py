"""What a key allows, in words: read from the annotation and the constraints of its field."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PLAIN = {
    bool: "true or false",
    date: "a day such as 2013-01-31",
    datetime: "an instant with its time zone, such as 2013-01-31T12:00:00Z",
    timedelta: "an ISO 8601 duration such as P2D (two days) or PT6H (six hours)",
    Path: "a path",
}


def allowed_values(field: FieldInfo) -> str:
    """Say what a field allows, such as ``a whole number from 1 to 1024``.

    Parameters
    ----------
    field
        With its constraints; its examples, where it has some, stand in for a pattern.
    """
    examples = " or ".join(str(example) for example in (field.examples or [])[:2])
    return _allowed(field.annotation, tuple(field.metadata), examples)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to one, or ``None`` if none is near."""
    return next(iter(get_close_matches(name, tuple(known), n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'kind'?`` for the nearest known name, or nothing if none is near."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""


def one_of(values: Iterable[object]) -> str:
    """Return ``'a', 'b' or 'c'``."""
    *rest, last = [repr(value) for value in values]
    return f"{', '.join(rest)} or {last}" if rest else last


def members(annotation: Any) -> Iterator[Any]:
    """Yield what an annotation may be: the members of a union, without ``None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for argument in get_args(annotation):
            yield from members(argument)
    elif annotation is not NoneType:
        yield annotation


def _allowed(annotation: Any, metadata: tuple[object, ...] = (), examples: str = "") -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _allowed(arguments[0], (*_flat(arguments[1:]), *metadata), examples)
    if origin in {Union, UnionType}:
        texts = [_allowed(a, metadata, examples) for a in arguments if a is not NoneType]
        return " or ".join(dict.fromkeys(texts))
    if origin is not None:
        return _generic(origin, arguments, metadata)
    if annotation in {int, float}:
        return _number(annotation, metadata)
    if annotation is str:
        return _text(metadata, examples)
    return _PLAIN.get(annotation) or _class(annotation)


def _generic(origin: Any, arguments: tuple[Any, ...], metadata: tuple[object, ...]) -> str:
    if origin is Literal:
        return one_of(arguments)
    if origin in {tuple, list}:
        least = _constraint(metadata, "min_length")
        return f"a list{f' of at least {least}' if least else ''}, each {_allowed(arguments[0])}"
    if origin is dict:
        return f"a mapping, each value {_allowed(arguments[1])}"
    return "any value"


def _class(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return one_of(member.value for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    return "any value"


def _flat(metadata: Iterable[object]) -> Iterator[object]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def _constraint(metadata: Iterable[object], name: str) -> Any:
    for item in metadata:
        value = getattr(item, name, None)
        if value is not None:
            return value
    return None


def _number(kind: Any, metadata: tuple[object, ...]) -> str:
    noun = "a whole number" if kind is int else "a number"
    found = {name: _constraint(metadata, name) for name in ("ge", "gt", "le", "lt")}
    # A bound is stored as the kind of its field, so that 1 may stand there as 1.0.
    bounds = {name: f"{bound:.15g}" for name, bound in found.items() if bound is not None}
    if "ge" in bounds and "le" in bounds:
        return f"{noun} from {bounds['ge']} to {bounds['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    said = " and ".join(f"{word} {bounds[name]}" for name, word in words.items() if name in bounds)
    return f"{noun} {said}" if said else noun


def _text(metadata: tuple[object, ...], examples: str) -> str:
    least, most = _constraint(metadata, "min_length"), _constraint(metadata, "max_length")
    if least and least == most:
        return f"a text of {least} character{'s' if least > 1 else ''}"
    parts = [f"at least {least}"] if least else []
    parts += [f"at most {most}"] if most else []
    text = f"a text of {' and '.join(parts)} characters" if parts else "a text"
    pattern = _constraint(metadata, "pattern")
    if examples:
        return f"{text} such as {examples}"
    return f"{text} that matches {getattr(pattern, 'pattern', pattern)}" if pattern else text
