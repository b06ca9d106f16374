"""What the flights example declares in YAML, read without Dagster."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from mlops_assets.ingestion.sources import FileSource
from mlops_assets.lake import TableName
from mlops_assets.quality import Contract
from mlops_assets.training.family import ModelFamily, declare_family

PROJECT = Path(__file__).resolve().parents[2]
_FLIGHTS = PROJECT / "mlops_assets" / "defs" / "flights"


@dataclass(frozen=True)
class RawTable:
    """A raw table as its ``defs.yaml`` declares it.

    Attributes
    ----------
    window_column
        The date column that its days are told by; None for a snapshot.
    """

    table: TableName
    source: FileSource
    contract: type[Contract]
    derived: dict[str, str]
    window_column: str | None


def raw_tables() -> tuple[RawTable, ...]:
    """Return the raw tables of the example, in declared order."""
    found = []
    for document in yaml.safe_load_all((_FLIGHTS / "raw" / "defs.yaml").read_text()):
        attributes = document["attributes"]
        module, _, name = attributes["contract"].partition(":")
        found.append(
            RawTable(
                table=TableName.parse(attributes["table"]),
                source=FileSource.model_validate(attributes["source"]),
                contract=getattr(import_module(module), name),
                derived=attributes.get("derived", {}),
                window_column=attributes.get("load", {}).get("column"),
            )
        )
    return tuple(found)


def model_family(**changed: Any) -> ModelFamily:
    """Return the model family of the example, with some of its attributes changed."""
    path = _FLIGHTS / "delay" / "defs.yaml"
    attributes = yaml.safe_load(path.read_text())["attributes"]
    return declare_family({**attributes, **changed}, str(path))


def source_path(table: RawTable) -> Path:
    """Return the file that a raw table is read from."""
    if table.source.package is None:
        return PROJECT / table.source.path
    package = find_spec(table.source.package)  # found, not imported: it needs an old setuptools
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(f"{table.source.package}, which holds {table.source.path}")
    return Path(package.submodule_search_locations[0]) / table.source.path
