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

from mlops_assets.orchestration.dbt_models import DbtModels, DbtModelsDeclaration
from mlops_assets.orchestration.model_family import ModelFamilyAssets
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
            "Each is an environment variable, or a line of `.env` in the project. A value that is "
            "not allowed stops the command, and names the variable, the value and what is allowed. "
            "`mlops doctor` names variables that nothing reads."
        ),
        "",
        "| variable | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = _default(field) if name != "project_root" else "where the package lies"
        lines.append(
            f"| `{PREFIX}{name.upper()}` | {_type(field.annotation)} | {default} | "
            f"{_cell(field.description or '')} |"
        )
    return "\n".join(lines) + "\n"


def _yaml_page() -> str:
    components = (
        (RawTable, RawTableDeclaration),
        (DbtModels, DbtModelsDeclaration),
        (ModelFamilyAssets, ModelFamily),
    )
    lines = [
        _GENERATED,
        "# YAML of the components",
        "",
        (
            "A `defs.yaml` anywhere below `mlops_assets/defs/` declares one component in each "
            "document: its `type`, and its `attributes` as below. A key that is not listed is an "
            "error, which names the file, the line and the key."
        ),
        "",
    ]
    for component, model in components:
        title = f"{component.__module__}.{component.__qualname__}"
        lines += [f"## `type: {title}`", "", inspect.getdoc(component) or "", ""]
        lines += _model_table(model)
        for nested in _nested(model):
            lines += [f"### `{nested.__name__}`", "", _summary(nested), "", *_model_table(nested)]
    return "\n".join(lines).rstrip() + "\n"


def _model_table(model: type[BaseModel]) -> list[str]:
    described = _described_in_docstring(model)
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {_default(field)} | "
        f"{_cell(field.description or described.get(name, ''))} |"
        for name, field in model.model_fields.items()
    ]
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]


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
    }
    name = getattr(annotation, "__name__", str(annotation))
    return plain.get(name, name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return "computed" if field.annotation is int else _default_of_factory(field)
    if isinstance(field.default, BaseModel):
        return "see below"
    if field.default is None or field.default == "":
        return "–"
    value = TypeAdapter(type(field.default)).dump_python(field.default, mode="json")
    return f"`{value}`" if value != [] else "none"


def _default_of_factory(field: FieldInfo) -> str:
    made = field.get_default(call_default_factory=True)
    return "see below" if isinstance(made, BaseModel) else "none"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
