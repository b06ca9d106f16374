"""What can be read of a declaration that is wrong somewhere: its valid parts, as they would be.

So that everything that is wrong is found in one go, what does not rest on a wrong key is judged
although that key is wrong.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mlops_assets.declaration.allowed import members
from mlops_assets.declaration.choosing import item_annotation, model_of
from mlops_assets.declaration.model import Declared
from mlops_assets.declaration.problem import Key

Model = TypeVar("Model", bound=BaseModel)
_NOTHING = object()


def readable_part(model: type[Model], document: Mapping[Any, Any]) -> Model:
    """Make a declaration of what is valid in a document.

    Parameters
    ----------
    model
        What the document is to be.
    document
        What the YAML holds; unknown keys are looked over.

    Returns
    -------
    BaseModel
        An instance of the model. Reading a key of a `Declared` that is missing, or whose value is
        not valid, raises `UnreadableError`; lists keep their places.
    """
    known = {key: value for key, value in document.items() if key in model.model_fields}
    try:
        return model.model_validate(known)
    except ValidationError as error:
        wrong = {details["loc"][0] for details in error.errors() if details["loc"]}
    completed = model.completed(known) if issubclass(model, Declared) else known
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name in completed:
            value = completed[name]
            found = _part(field.annotation, value) if name in wrong else _whole(field, value)
            if found is not _NOTHING:
                values[name] = found
    made = model.model_construct(**values)
    for absent in wrong - values.keys():
        made.__dict__.pop(str(absent), None)  # a default would say what nobody declared
    return made


def declared_in(value: Any, keys: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Any]]:
    """Yield every `Declared` in a declaration, itself included, with the path of keys to it."""
    if isinstance(value, BaseModel):
        if isinstance(value, Declared):
            yield keys, value
        for name, inner in value.__dict__.items():
            yield from declared_in(inner, (*keys, name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from declared_in(inner, (*keys, name))
    elif isinstance(value, tuple | list):
        for place, inner in enumerate(value):
            yield from declared_in(inner, (*keys, place))


def _whole(field: FieldInfo, value: Any) -> Any:
    """Return a valid value as the model would hold it."""
    annotation: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotation).validate_python(value)


def _part(annotation: Any, value: Any) -> Any:
    """Return the readable part of a wrong value; `_NOTHING` where that would mislead."""
    if isinstance(value, Mapping):
        model = model_of(annotation, value)
        if model is not None:
            return readable_part(model, value)
        inner = item_annotation(annotation, dict)
        parts = {key: _valid(inner, each) for key, each in value.items()}
        return {key: part for key, part in parts.items() if part is not _NOTHING}
    if isinstance(value, list):
        for member in members(annotation):
            if get_origin(member) in {tuple, list}:
                found = tuple(_valid(get_args(member)[0], each) for each in value)
                if found and not any(part is _NOTHING for part in found):
                    return found
    return _NOTHING


def _valid(annotation: Any, value: Any) -> Any:
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return _part(annotation, value)
