"""The code location: light to load, and complete in what it says about every asset."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.definitions import build_defs
from mlops_assets.settings import load_settings

HEAVY = ("mlflow", "catboost", "torch", "shap", "sklearn", "matplotlib")

LOAD = """
import json, socket, sys, duckdb
def refuse(*args, **kwargs):
    raise AssertionError("loading the definitions opened something")
socket.socket.connect = refuse
duckdb.connect = refuse
import mlops_assets.definitions
mlops_assets.definitions.build_defs()
print(json.dumps([name for name in sys.argv[1:] if name in sys.modules]))
"""


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_defs(load_settings(home=tmp_path_factory.mktemp("home")))


def specs(defs: dg.Definitions) -> list[dg.AssetSpec]:
    return list(defs.resolve_all_asset_specs())


def test_loading_imports_nothing_heavy_and_opens_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, *HEAVY],
        check=True,
        capture_output=True,
        text=True,
        env={"MLOPS_HOME": str(home), "PATH": ""},
    )

    assert json.loads(loaded.stdout.splitlines()[-1]) == []
    assert not home.exists()


def test_every_asset_is_described_owned_and_grouped(defs: dg.Definitions) -> None:
    for spec in specs(defs):
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.group_name not in {None, "default"}, spec.key
        assert spec.kinds, spec.key
        assert spec.freshness_policy, spec.key


def test_every_asset_has_a_code_version(defs: dg.Definitions) -> None:
    assert [spec.key for spec in specs(defs) if not spec.code_version] == []


def test_no_asset_hands_a_value_to_an_io_manager(defs: dg.Definitions) -> None:
    for definition in defs.resolve_asset_graph().assets_defs:
        if not definition.is_executable:  # is only shown
            continue
        for output in map(definition.node_def.output_def_named, definition.keys_by_output_name):
            assert output.dagster_type.is_nothing, (definition.node_def.name, output.name)


def test_a_range_of_days_is_one_run(defs: dg.Definitions) -> None:
    partitioned = [
        definition
        for definition in defs.resolve_asset_graph().assets_defs
        if any(spec.partitions_def for spec in definition.specs)
    ]
    assert partitioned
    for definition in partitioned:
        assert definition.backfill_policy == dg.BackfillPolicy.single_run()


def test_the_lineage_runs_from_raw_to_champion(defs: dg.Definitions) -> None:
    upstream = (
        dg.AssetSelection.assets(["flight_delay", "champion"])
        .upstream()
        .resolve(defs.resolve_asset_graph())
    )
    names = {key.to_user_string() for key in upstream}
    assert {
        "raw/flights",
        "raw/weather",
        "raw/planes",
        "raw/airports",
        "staging/stg_flights",
        "features/fv_schedule",
        "training/flight_delay",
        "flight_delay/linear",
        "flight_delay/catboost",
        "flight_delay/evaluation",
        "flight_delay/challenger",
        "flight_delay/champion",
    } <= names


def test_every_contract_and_dbt_test_is_a_check(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys}
    for spec in specs(defs):
        if spec.key.path[0] in {"raw", "staging", "intermediate", "marts", "features"}:
            assert spec.key.to_user_string() in checked
