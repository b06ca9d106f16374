"""What is wrong with a declaration, all of it at once: the key, the value and what is allowed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mlops_assets.declaration.allowed import allowed_values, did_you_mean, members, nearest, one_of
from mlops_assets.declaration.choosing import item_annotation, model_of, tags
from mlops_assets.declaration.model import BROKEN_CONSTRAINTS
from mlops_assets.declaration.problem import Key, Problem, unknown_key
from mlops_assets.declaration.readable import declared_in, readable_part
from mlops_assets.declaration.secrets import HIDDEN, is_secret_name, without_secrets

_LONGEST_VALUE = 100
# Types of Pydantic's errors for which what is given and what is allowed says it all.
_SAID_BY_ALLOWED = re.compile(
    r"_type$|_parsing|_pattern_mismatch|too_short|too_long|_than(_equal)?$|literal_error|enum|_size"
    r"|int_from_float|finite_number"
)


def find_problems(model: type[BaseModel], document: Mapping[str, Any]) -> list[Problem]:
    """Look at a document as a declaration of one model.

    Neither unknown keys nor wrong values keep the rest from being looked at.

    Parameters
    ----------
    model
        What the document is to be.
    document
        What the YAML holds.

    Returns
    -------
    list of Problem
        In the order of the keys; empty if the document is a valid declaration.
    """
    unknown = dict(_unknown_keys(model, document, ()))
    known = _without(document, set(unknown))
    try:
        model.model_validate(known)
    except ValidationError as error:
        wrong = _problems(error, model, known)
    else:
        wrong = []
    for keys, declared in declared_in(readable_part(model, known)):
        wrong += [replace(p, keys=(*keys, *p.keys)) for p in declared.broken_constraints()]
    # Where a key is misspelt, that the right one is missing says nothing more.
    meant = {(*keys[:-1], nearest(str(keys[-1]), names)) for keys, names in unknown.items()}
    found = [
        *(Problem(keys, unknown_key(keys[-1], names)) for keys, names in unknown.items()),
        *(problem for problem in wrong if problem.missing not in meant),
    ]
    shown = [Problem(p.keys, without_secrets(p.text, document)) for p in found]
    return list(dict.fromkeys(shown))


def choose_key(document: Any, message: str) -> tuple[Key, ...]:
    """Choose the key of a document that a message is about; the document itself if none is.

    It is the first key that the message names in backticks or begins with, else the one whose value
    it quotes first: what it quotes after that, it suggests.
    """
    if isinstance(document, Mapping):
        named = [*re.findall(r"`(\w+)`", message), message.partition(" ")[0]]
        for name in named:
            if name in document:
                return (name,)
    quoted = [
        (message.index(repr(value)), keys)
        for keys, value in scalars(document)
        if repr(value) in message
    ]
    first = min((place for place, _ in quoted), default=None)
    chosen = [keys for place, keys in quoted if place == first]
    return chosen[0] if len(chosen) == 1 else ()


def scalars(value: Any, keys: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Any]]:
    """Yield every plain value of a document with the path of keys to it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from scalars(item, (*keys, key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from scalars(item, (*keys, place))
    else:
        yield keys, value


def _unknown_keys(
    annotation: Any, value: Any, keys: tuple[Key, ...]
) -> Iterator[tuple[tuple[Key, ...], tuple[str, ...]]]:
    """Walk a document along a model's annotations; yield unknown keys and those allowed there."""
    if isinstance(value, list):
        for member in members(annotation):
            if get_origin(member) in {tuple, list}:
                for place, item in enumerate(value):
                    yield from _unknown_keys(get_args(member)[0], item, (*keys, place))
        return
    if not isinstance(value, Mapping):
        return
    model = model_of(annotation, value)
    if model is None:
        for key, item in value.items():
            yield from _unknown_keys(item_annotation(annotation, dict), item, (*keys, key))
        return
    known = tuple(model.model_fields)
    for key, item in value.items():
        if key in model.model_fields:
            yield from _unknown_keys(model.model_fields[key].annotation, item, (*keys, key))
        else:
            yield (*keys, key), known


def _without(value: Any, unwanted: set[tuple[Key, ...]], keys: tuple[Key, ...] = ()) -> Any:
    """Copy a document without some keys."""
    if isinstance(value, Mapping):
        return {
            key: _without(item, unwanted, (*keys, key))
            for key, item in value.items()
            if (*keys, key) not in unwanted
        }
    if isinstance(value, list):
        return [_without(item, unwanted, (*keys, place)) for place, item in enumerate(value)]
    return value


def _problems(
    error: ValidationError, model: type[BaseModel], document: Mapping[str, Any]
) -> list[Problem]:
    found, told_apart = [], []
    for details in error.errors(include_url=False):
        keys, meant, shown = _locate(details, model, document)
        if details["type"] == BROKEN_CONSTRAINTS:
            told_apart.append(Problem(keys, ""))  # each is told on its own, with its key
            continue
        if details["type"] == "value_error" and isinstance(details["input"], Mapping):
            keys = (*keys, *choose_key(details["input"], _message(details)))
        found.append(Problem(keys, _text(details, meant, shown=shown), _missing(details, keys)))
    # A union says of each member why it is not that, and a list without its wrong items is too
    # short; what stands deepest is what was meant.
    return [
        problem
        for problem in found
        if not any(_is_inside(other, problem) for other in (*found, *told_apart))
    ]


def _missing(details: ErrorDetails, keys: tuple[Key, ...]) -> tuple[Key, ...] | None:
    if details["type"] == "missing":
        return keys
    if details["type"] == "union_tag_not_found":
        return (*keys, details["ctx"]["discriminator"].strip("'"))
    return None


def _is_inside(inner: Problem, outer: Problem) -> bool:
    depth = len(outer.keys)
    return len(inner.keys) > depth and inner.keys[:depth] == outer.keys


def _locate(
    details: ErrorDetails, model: type[BaseModel], document: Mapping[str, Any]
) -> tuple[tuple[Key, ...], FieldInfo, bool]:
    """Translate a place of Pydantic's to keys of the document, leaving out its names of types.

    Returns
    -------
    tuple
        The keys, the field of the innermost one, and whether its value may be shown.
    """
    keys: list[Key] = []
    value: Any = document
    annotation: Any = model
    field, shown = None, True
    for step in details["loc"]:
        if isinstance(value, Mapping):
            inner = model_of(annotation, value)
            fields = inner.model_fields if inner else {}
            if step not in value and step not in fields:
                continue
            field = fields.get(str(step))
            annotation = field.annotation if field else item_annotation(annotation, dict)
            shown = shown and not is_secret_name(step) and not (field and not field.repr)
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            annotation, field = item_annotation(annotation, tuple), None
            value = value[step]
        else:
            continue
        keys.append(step)
    return tuple(keys), field or FieldInfo(annotation=annotation), shown


def _message(details: ErrorDetails) -> str:
    return details["msg"].removeprefix("Value error, ").removesuffix(".")


def _text(details: ErrorDetails, field: FieldInfo, *, shown: bool) -> str:
    """Say what is wrong with a value, and what is allowed in its place."""
    kind = details["type"]
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _tag_text(details, field)
    if kind == "value_error":
        return _own_text(details, shown=shown)
    allowed = f"Allowed: {allowed_values(field)}."
    if kind == "missing":
        return " ".join(filter(None, ["is missing, and required.", field.description, allowed]))
    given = _given(details["input"]) if shown else "the value (not shown, it may hold a secret)"
    if _SAID_BY_ALLOWED.search(kind):
        hint = did_you_mean(str(details["input"]), _choices(field)) if shown else ""
        return f"{given} is not allowed{hint or '.'} {allowed}"
    return f"{given}: {_message(details)}. {allowed}"


def _tag_text(details: ErrorDetails, field: FieldInfo) -> str:
    """Say that a mapping does not tell, or tells wrongly, which of several models it is."""
    key = details["ctx"]["discriminator"].strip("'")
    known = [
        str(tag)
        for member in members(field.annotation)
        if isinstance(member, type) and issubclass(member, BaseModel)
        for tag in tags(member).get(key, ())
    ]
    allowed = f"Allowed: {one_of(known)}."
    if details["type"] == "union_tag_not_found":
        return f"the key {key!r}, which says what kind of mapping it is, is missing. {allowed}"
    tag = str(details["ctx"]["tag"])
    return f"{key} {tag!r} is unknown{did_you_mean(tag, known) or '.'} {allowed}"


def _own_text(details: ErrorDetails, *, shown: bool) -> str:
    """Give the words of the declaration's own validator, with the value unless they hold it."""
    given, message = details["input"], _message(details)
    if isinstance(given, Mapping | list | tuple):
        return f"{message}."
    if not shown:
        return f"{message.replace(str(given), HIDDEN)}."
    return f"{message}." if str(given) in message else f"{message} (got {_given(given)})."


def _choices(field: FieldInfo) -> list[str]:
    return [
        str(choice)
        for member in members(field.annotation)
        if get_origin(member) is Literal
        for choice in get_args(member)
    ]


def _given(value: object) -> str:
    """Show a wrong value; of a mapping or a list only that it is one, for it may be long."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing (null)"
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
