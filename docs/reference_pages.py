"""Writes the reference pages from the code, so that they cannot drift from it.

``python docs/reference_pages.py`` writes ``docs/reference/*.md``; a test compares them.
"""

import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mlops_assets.alerting import AlertsDeclaration
from mlops_assets.declaration import allowed_values
from mlops_assets.orchestration.alerts import AlertRules
from mlops_assets.orchestration.dbt_models import DbtModels, DbtModelsDeclaration
from mlops_assets.orchestration.defs_files import type_name
from mlops_assets.orchestration.incidents import IncidentAssets, IncidentsDeclaration
from mlops_assets.orchestration.inference_log import InferenceLogAssets, InferenceLogDeclaration
from mlops_assets.orchestration.model_family import ModelFamilyAssets
from mlops_assets.orchestration.online_store import OnlineStoreAssets, OnlineStoreDeclaration
from mlops_assets.orchestration.raw_table import RawTable, RawTableDeclaration
from mlops_assets.settings import PREFIX, Settings
from mlops_assets.training.family import ModelFamily

FOLDER = Path(__file__).parent / "reference"
_GENERATED = (
    "<!-- Written by docs/reference_pages.py from the code. Change the code, then run it. -->\n"
)


def pages() -> dict[str, str]:
    """Return each page's text by file name."""
    return {"settings.md": _settings_page(), "yaml.md": _yaml_page()}


def _settings_page() -> str:
    lines = [
        _GENERATED,
        "# Settings",
        "",
        (
            "Each is an environment variable, or a line of `.env` in the project root, wherever "
            "the command runs; the environment wins. A value that is not allowed stops the "
            "command, which names the variable, the value, where it came from and what is allowed. "
            "`mlops doctor` names variables that nothing reads, with the nearest valid name."
        ),
        "",
        "| variable | allowed | default | meaning |",
        "|---|---|---|---|",
    ]
    groups: list[type[BaseModel]] = []
    for name, field in Settings.model_fields.items():
        default = _default(field) if name != "project_root" else "where the package lies"
        lines.append(
            f"| `{PREFIX}{name.upper()}` | {_cell(allowed_values(field))} | {default} | "
            f"{_cell(field.description or '')} |"
        )
        groups += _models(field.annotation)
    for group in groups:
        lines += ["", f"## `{group.__name__}`", "", _summary(group), "", *_model_table(group)]
    return "\n".join(lines) + "\n"


def _yaml_page() -> str:
    components = (
        (RawTable, RawTableDeclaration),
        (DbtModels, DbtModelsDeclaration),
        (ModelFamilyAssets, ModelFamily),
        (OnlineStoreAssets, OnlineStoreDeclaration),
        (InferenceLogAssets, InferenceLogDeclaration),
        (IncidentAssets, IncidentsDeclaration),
        (AlertRules, AlertsDeclaration),
    )
    lines = [
        _GENERATED,
        "# YAML of the components",
        "",
        (
            "A `defs.yaml` anywhere below `mlops_assets/defs/` declares one component in each "
            "document: its `type`, and its `attributes` as below. Whatever is wrong in any of them "
            "is said at once, each with file, line, key, value and what is allowed; "
            "`mlops doctor` and `dagster definitions validate -w workspace.yaml` show it. Write a "
            "secret as `${NAME}`: no error shows one."
        ),
        "",
    ]
    for component, model in components:
        title = type_name(component)
        lines += [f"## `type: {title}`", "", inspect.getdoc(component) or "", ""]
        lines += _model_table(model)
        for nested in _nested(model):
            lines += [f"### `{nested.__name__}`", "", _summary(nested), "", *_model_table(nested)]
    return "\n".join(lines).rstrip() + "\n"


def _model_table(model: type[BaseModel]) -> list[str]:
    described = _described_in_docstring(model)
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {_default(field)} | "
        f"{_cell(field.description or described.get(name) or _of_its_type(field))} |"
        for name, field in model.model_fields.items()
    ]
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]


def _of_its_type(field: FieldInfo) -> str:
    """Say what a key without a description of its own is: what its type is."""
    if get_origin(field.annotation) is Literal:
        return f"Names this kind: {_type(field.annotation)}."
    models = list(_models(field.annotation))
    if len(models) == 1:
        return _summary(models[0]).partition("\n\n")[0]
    return f"One of these kinds, told apart by `{field.discriminator}`." if models else ""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _nested(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Every model reachable from one, each once, in the order of the keys."""
    seen: dict[type[BaseModel], None] = {}

    def visit(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in seen:
                seen[annotation] = None
                for field in annotation.model_fields.values():
                    visit(field.annotation)
            return
        for argument in get_args(annotation):
            visit(argument)

    for field in model.model_fields.values():
        visit(field.annotation)
    return iter(seen)


def _described_in_docstring(model: type[BaseModel]) -> dict[str, str]:
    """Read the ``Attributes`` section of a docstring; several names may share a description."""
    text = inspect.getdoc(model) or ""
    _, _, attributes = text.partition("Attributes\n----------\n")
    described: dict[str, str] = {}
    for match in re.finditer(r"^(\S[^\n]*)\n((?:    [^\n]*\n?)+)", attributes, re.MULTILINE):
        names, body = match.groups()
        for name in names.split(","):
            described[name.strip()] = " ".join(body.split())
    return described


def _summary(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").partition("\n\nAttributes")[0]


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in {Union, UnionType}:
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    if origin is Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[0])} to {_type(arguments[1])}"
    if annotation is timedelta:
        return "ISO 8601 duration"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " or ".join(f"`{member}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    plain = {
        "str": "text",
        "bool": "true or false",
        "int": "whole number",
        "float": "number",
        "Path": "path",
        "datetime": "instant",
    }
    name = getattr(annotation, "__name__", str(annotation))
    return plain.get(name, name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return "computed" if field.annotation is int else _default_of_factory(field)
    if isinstance(field.default, BaseModel):
        return _link(type(field.default))
    if field.default is None or field.default == "":
        return "–"
    value = TypeAdapter(type(field.default)).dump_python(field.default, mode="json")
    return f"`{value}`" if value != [] else "none"


def _default_of_factory(field: FieldInfo) -> str:
    made = field.get_default(call_default_factory=True)
    return _link(type(made)) if isinstance(made, BaseModel) else "none"


def _link(model: type[BaseModel]) -> str:
    """Link a default that is a model to its table, whose defaults then hold."""
    return f"[its defaults](#{model.__name__.lower()})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
