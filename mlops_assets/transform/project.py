"""The dbt project as data: its manifest, its models, its tests.

The manifest is dbt's own description of the project. It is parsed anew only when a file of the
project changed, because a parse takes seconds and every Dagster process needs the result.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlops_assets.lake import TableName

_SOURCES = ("*.sql", "*.yml", "*.yaml", "*.md")
_GENERATED = {"target", "logs", "dbt_packages"}


class DbtProjectError(RuntimeError):
    """dbt refused the project. The message holds what dbt said."""


@dataclass(frozen=True)
class DbtModel:
    """One dbt model, as the manifest declares it.

    Attributes
    ----------
    unique_id
        dbt's name for it, such as ``model.mlops_assets.stg_flights``.
    table
        The lake table it is published to.
    window_column
        The date column by which it is rebuilt in windows; ``None``: always rebuilt whole.
    columns
        Column name to description, in the declared order.
    upstream
        The tables it reads: sources and other models.
    """

    unique_id: str
    name: str
    table: TableName
    description: str
    window_column: str | None
    columns: Mapping[str, str]
    meta: Mapping[str, Any]
    upstream: tuple[TableName, ...]


@dataclass(frozen=True)
class DbtTest:
    """One dbt test, as the manifest declares it.

    Attributes
    ----------
    judges
        Unique ids of the models it speaks about: the one it is declared on, or all that a
        free-standing test reads.
    reads
        The tables it needs.
    """

    unique_id: str
    name: str
    judges: tuple[str, ...]
    reads: tuple[TableName, ...]


@dataclass(frozen=True)
class DbtProject:
    """A dbt project folder.

    Parameters
    ----------
    folder
        Holds ``dbt_project.yml`` and ``profiles.yml``.
    """

    folder: Path

    @property
    def manifest_path(self) -> Path:
        """Where the parsed manifest lies."""
        return self.folder / "target" / "manifest.json"

    @property
    def _fingerprint_path(self) -> Path:
        return self.folder / "target" / "manifest.fingerprint"

    def fingerprint(self) -> str:
        """Hash of dbt's version and of every source file of the project."""
        digest = hashlib.sha256(version("dbt-core").encode())
        for path in self._source_files():
            digest.update(str(path.relative_to(self.folder)).encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def _source_files(self) -> Iterator[Path]:
        files = {path for pattern in _SOURCES for path in self.folder.rglob(pattern)}
        return (
            path
            for path in sorted(files)
            if path.relative_to(self.folder).parts[0] not in _GENERATED
        )

    def ensure_manifest(self) -> Path:
        """Parse the project if its files changed since the last parse, and return the manifest.

        Raises
        ------
        DbtProjectError
            If dbt refuses the project.
        """
        fingerprint = self.fingerprint()
        if (
            not self.manifest_path.exists()
            or not self._fingerprint_path.exists()
            or self._fingerprint_path.read_text() != fingerprint
        ):
            self._parse()
            self._fingerprint_path.write_text(fingerprint)
        return self.manifest_path

    def _parse(self) -> None:
        from dbt.cli.main import dbtRunner

        outcome = dbtRunner().invoke(
            [
                "--quiet",
                "parse",
                "--project-dir",
                str(self.folder),
                "--profiles-dir",
                str(self.folder),
            ]
        )
        if not outcome.success:
            raise DbtProjectError(f"dbt cannot parse {self.folder}: {outcome.exception}")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The parsed manifest, as dbt's JSON."""
        manifest: dict[str, Any] = json.loads(self.ensure_manifest().read_text())
        return manifest

    @cached_property
    def models(self) -> Mapping[str, DbtModel]:
        """Every enabled model, by unique id."""
        return {
            unique_id: DbtModel(
                unique_id=unique_id,
                name=node["name"],
                table=TableName(node["schema"], node["name"]),
                description=node["description"],
                window_column=node["config"].get("window_column"),
                columns={name: c["description"] for name, c in node["columns"].items()},
                meta=node["config"].get("meta", {}),
                upstream=tuple(
                    self._table(upstream_id) for upstream_id in node["depends_on"]["nodes"]
                ),
            )
            for unique_id, node in self.manifest["nodes"].items()
            if node["resource_type"] == "model"
        }

    @cached_property
    def tests(self) -> Mapping[str, DbtTest]:
        """Every enabled test, by unique id."""
        return {
            unique_id: DbtTest(
                unique_id=unique_id,
                name=node["name"],
                judges=(node["attached_node"],)
                if node.get("attached_node")
                else tuple(node["depends_on"]["nodes"]),
                reads=tuple(self._table(read) for read in node["depends_on"]["nodes"]),
            )
            for unique_id, node in self.manifest["nodes"].items()
            if node["resource_type"] == "test"
        }

    def tests_of(self, models: Collection[DbtModel]) -> tuple[DbtTest, ...]:
        """Return the tests that judge any of these models.

        dbt's own way of choosing tests goes by what a test reads: it would run the test that every
        flight has an airport when only the airports are built, before there are flights.
        """
        ids = {model.unique_id for model in models}
        return tuple(test for test in self.tests.values() if ids.intersection(test.judges))

    def _table(self, unique_id: str) -> TableName:
        kind = "sources" if unique_id.startswith("source.") else "nodes"
        node = self.manifest[kind][unique_id]
        return TableName(node["schema"], node["name"])

    def code_version(self, unique_id: str) -> str:
        """Hash of a model's SQL, its declared columns and config, and every macro it uses.

        dagster-dbt hashes the raw SQL alone, so a changed macro or type would go unnoticed.
        """
        node = self.manifest["nodes"][unique_id]
        digest = hashlib.sha256(node["raw_code"].encode())
        digest.update(json.dumps([node["columns"], node["config"]], sort_keys=True).encode())
        for macro in sorted(self._macros_below(node["depends_on"]["macros"])):
            digest.update(self.manifest["macros"][macro]["macro_sql"].encode())
        return digest.hexdigest()[:16]

    def _macros_below(self, roots: list[str]) -> set[str]:
        """Return the project's own macros reachable from these; dbt's come with its version."""
        own = {
            unique_id: macro
            for unique_id, macro in self.manifest["macros"].items()
            if macro["package_name"] == self.manifest["metadata"]["project_name"]
        }
        found: set[str] = set()
        waiting = [macro for macro in roots if macro in own]
        while waiting:
            macro = waiting.pop()
            if macro not in found:
                found.add(macro)
                waiting.extend(m for m in own[macro]["depends_on"]["macros"] if m in own)
        return found


@cache
def project_at(folder: Path) -> DbtProject:
    """Return the project in a folder; a process reads its manifest once, however many ask."""
    return DbtProject(folder)
