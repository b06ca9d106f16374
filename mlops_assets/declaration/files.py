"""The files in which a project declares its components, read without Dagster.

Servers and commands that need one kind of declaration read it here. What the whole project
declares, with the line of each mistake, is `mlops_assets.orchestration.defs_files`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_NAMES = ("defs.yaml", "defs.yml")


class DeclarationFileError(ValueError):
    """A file of declarations cannot be read; the message names it."""


def declaration_files(defs: Path) -> list[Path]:
    """Return every file below a folder that declares components, in the order of their paths."""
    return sorted(found for found in defs.rglob("defs.y*ml") if found.name in _NAMES)


def declared_attributes(defs: Path, component: str) -> list[tuple[Path, Any]]:
    """Return what the documents of one kind of component declare, each with its file.

    Parameters
    ----------
    defs
        Folder of declarations.
    component
        The `type` of the documents.

    Returns
    -------
    list
        The `attributes` of each as they are written; an empty mapping where there are none.

    Raises
    ------
    DeclarationFileError
        When a file cannot be read, or is no YAML.
    """
    found: list[tuple[Path, Any]] = []
    for path in declaration_files(defs):
        try:
            documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, OSError) as error:
            raise DeclarationFileError(f"{path}: cannot be read: {error}") from error
        found += [
            (path, document.get("attributes") or {})
            for document in documents
            if isinstance(document, Mapping) and document.get("type") == component
        ]
    return found
