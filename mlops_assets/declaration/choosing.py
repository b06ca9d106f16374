"""Which of the models that an annotation allows a mapping is to be."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from mlops_assets.declaration.allowed import members


def model_of(annotation: Any, value: Mapping[Any, Any]) -> type[BaseModel] | None:
    """Return the model that a mapping is to be: by its tag, else the one that shares most keys."""
    models = [m for m in members(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
    for model in models:
        for name, allowed in tags(model).items():
            if value.get(name) in allowed:
                return model
    return max(models, key=lambda m: len(m.model_fields.keys() & value.keys()), default=None)


def tags(model: type[BaseModel]) -> dict[str, tuple[Any, ...]]:
    """Return the fields of a model that say which of several it is, with their values."""
    return {
        name: get_args(field.annotation)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal
    }


def item_annotation(annotation: Any, of: type) -> Any:
    """Return the annotation of a container's items."""
    for member in members(annotation):
        if get_origin(member) is of:
            return get_args(member)[1 if of is dict else 0]
    return Any
