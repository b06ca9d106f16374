"""Any Delta reader opens every table that the demo made, and every column says what it is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from mlops_assets.settings import load_settings
from tests.demo import Demo

pytestmark = [pytest.mark.demo, pytest.mark.timeout(1800)]


def test_delta_rs_polars_and_the_lake_count_the_same_rows(demo: Demo) -> None:
    names = demo.lake.tables()
    assert len(names) >= 37
    with demo.lake.connect() as con:
        ours = {
            str(name): con.sql(f"SELECT count(*) FROM {name.sql}").fetchall()[0][0]
            for name in names
        }
    by_polars = {
        str(name): pl.scan_delta(demo.lake.uri(name)).select(pl.len()).collect().item()
        for name in names
    }
    by_delta_rs = {
        str(name): DeltaTable(demo.lake.uri(name)).to_pyarrow_dataset().count_rows()
        for name in names
    }
    assert by_polars == ours
    assert by_delta_rs == ours


def test_every_table_and_column_is_described(demo: Demo) -> None:
    undescribed = []
    for name in demo.lake.tables():
        info = demo.lake.describe(name)
        if not info.description:
            undescribed.append(str(name))
        undescribed += [
            f"{name}.{field.name}"
            for field in info.schema
            if not (field.metadata or {}).get(b"comment")
        ]
    assert undescribed == []


def test_dbt_docs_generate(demo: Demo, tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(
        load_settings().dbt_project_dir, project, ignore=shutil.ignore_patterns("target", "logs")
    )
    dbt = [Path(sys.executable).with_name("dbt"), "docs", "generate"]
    made = subprocess.run(
        [*dbt, "--project-dir", project, "--profiles-dir", project],
        env=demo.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr

    manifest = json.loads((project / "target" / "manifest.json").read_text())
    catalog = json.loads((project / "target" / "catalog.json").read_text())
    assert (project / "target" / "index.html").exists()
    assert catalog["errors"] is None
    models = {k: v for k, v in manifest["nodes"].items() if v["resource_type"] == "model"}
    assert set(catalog["nodes"]) == set(models)
    assert set(catalog["sources"]) == set(manifest["sources"])
    for unique_id, model in models.items():
        shown = {name.lower() for name in catalog["nodes"][unique_id]["columns"]}
        assert shown == set(model["columns"]), unique_id
    assert manifest["exposures"]
