"""How families are declared to be served now: read from the project's YAML, without Dagster.

A model is registered with the declaration it was trained by. What is said there about serving may
have changed since, and shall hold without training again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_assets.declaration import find_problems
from mlops_assets.declaration.files import (
    DeclarationFileError,
    declaration_files,
    declared_attributes,
)
from mlops_assets.training.family_serving import ServingDeclaration

_COMPONENT = "mlops_assets.orchestration.model_family.ModelFamilyAssets"


class ServingDeclarationError(ValueError):
    """A `serving:` is declared wrongly; the message names file, family, key and value."""


class DeclaredServing:
    """What a folder of declarations says, read again only when one of its files has changed.

    Parameters
    ----------
    defs
        The folder.
    """

    def __init__(self, defs: Path) -> None:
        self._defs = defs
        self._read: tuple[object, Mapping[str, dict[str, Any]]] | None = None

    def __call__(self) -> Mapping[str, dict[str, Any]]:
        """Return what each family's `serving:` says; see `declared_serving`."""
        stats = [(path, path.stat()) for path in declaration_files(self._defs)]
        signature = [(path, stat.st_mtime_ns, stat.st_size) for path, stat in stats]
        if self._read is None or self._read[0] != signature:
            self._read = signature, declared_serving(self._defs)
        return self._read[1]


def declared_serving(defs: Path) -> Mapping[str, dict[str, Any]]:
    """Return what each family's `serving:` says, by the family's name.

    Parameters
    ----------
    defs
        Folder of declarations.

    Raises
    ------
    ServingDeclarationError
        When a file is no YAML, or declares what is no serving.
    """
    found: dict[str, dict[str, Any]] = {}
    try:
        declared = declared_attributes(defs, _COMPONENT)
    except DeclarationFileError as error:
        raise ServingDeclarationError(str(error)) from error
    for path, attributes in declared:
        serving = attributes.get("serving") or {}
        name = str(attributes.get("name"))
        if problems := find_problems(ServingDeclaration, serving):
            raise ServingDeclarationError(f"{path}: {name}: serving.{problems[0]}")
        found[name] = serving
    return found
