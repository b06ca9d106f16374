"""Fixtures of the ingestion tests: a project folder, a session, and a staging call."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mlops_assets.ingestion import SOURCES, Staged, stage
from mlops_assets.quality.contract import ContractColumn

LOADED_AT = dt.datetime(2013, 6, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 2}) as session:
        session.execute("SET TimeZone = 'UTC'")
        yield session


@pytest.fixture
def staging(con: duckdb.DuckDBPyConnection, root: Path, tmp_path: Path) -> Callable[..., Staged]:
    """Stage a declaration: ``staging({"path": "a.csv"}, {"a": "BIGINT"}, window=…)``."""
    scratch = tmp_path / "scratch"

    def run(source: dict[str, Any], types: dict[str, str], **options: Any) -> Staged:
        scratch.mkdir(exist_ok=True)
        optional = options.pop("optional", ())
        columns = [
            ContractColumn(name, kind, True, "tested", (), required=name not in optional)
            for name, kind in types.items()
        ]
        declared = SOURCES.validate_python({"kind": "file", **source})
        defaults: dict[str, Any] = {"window": None, "derived": {}, "loaded_at": LOADED_AT}
        return stage(con, declared, columns, root=root, scratch=scratch, **{**defaults, **options})

    return run


@pytest.fixture
def rows(con: duckdb.DuckDBPyConnection) -> Callable[[str], list[tuple[Any, ...]]]:
    """Select expressions from the staged relation, in the order of the source."""

    def select(expressions: str) -> list[tuple[Any, ...]]:
        return con.execute(
            f"SELECT {expressions} FROM staged ORDER BY _source, _source_row"
        ).fetchall()

    return select
