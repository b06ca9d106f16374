"""``mlops models`` on a small registry: what it prints, what it changes, how it ends."""

from datetime import timedelta
from pathlib import Path

import pytest

from mlops_assets.lake import Lake
from mlops_assets.registry import Registry, ledger
from mlops_assets.registry.tracking import mlflow_client
from mlops_assets.settings import load_settings
from mlops_assets.training import declare_family
from mlops_assets.training.training_set import build_training_set
from tests.cli.conftest import Run
from tests.demo import mlops
from tests.registry.conftest import (
    DECLARATION,
    judge_version,
    make_lake,
    make_registry,
    make_version,
    make_views,
)

FAMILY = "late_flights"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions: a weak one that was replaced by the champion, and one the gate refused."""
    folder = tmp_path_factory.mktemp("models")
    empty = folder / "empty" / "mlflow.db"
    mlflow_client(f"sqlite:///{empty}")
    home = folder / "home"
    home.mkdir()
    lake = make_lake(home)
    registry = make_registry(home, lake, empty)
    family = declare_family({**DECLARATION, "gate": {"draws": 400, "slices": {"margin": 0.2}}})
    training_set = build_training_set(lake, family, make_views())
    for name in ("weak", "catboost", "weak"):
        judge_version(registry, family, make_version(registry, family, training_set, name))
    return home


@pytest.fixture
def registry(home: Path) -> Registry:
    return Registry.from_settings(load_settings(home=home))


def champion(registry: Registry) -> str:
    return str(registry.find(f"{FAMILY}@champion"))


def test_list_shows_role_metric_training_set_and_what_the_gate_said(run: Run) -> None:
    versions = run("models", "list", "--json").told
    assert [(v["model"], v["aliases"], v["gate"]) for v in versions] == [
        ("late_flights/3", ["challenger"], "refused"),
        ("late_flights/2", ["champion"], "passed"),
        ("late_flights/1", ["previous"], "passed"),
    ]
    assert all(v["low"] < v["value"] < v["high"] for v in versions)
    assert {v["training_set"] for v in versions} == {"training/late_flights@0"}
    assert {v["primary_metric"] for v in versions} == {"roc_auc"}
    unknown = run("models", "list", "late_flight")
    assert unknown.returncode == 1
    assert "did you mean 'late_flights'" in unknown.stderr
    assert "2 more; --limit" in run("models", "list", "--limit", "1").stdout


def test_list_without_any_model_says_what_to_do_and_makes_no_store(tmp_path: Path) -> None:
    listed = mlops(tmp_path / "nothing", "models", "list")
    assert listed.returncode == 0, listed.stderr
    assert "none yet" in listed.stdout
    assert not (tmp_path / "nothing" / "mlflow").exists()


def test_show_says_what_a_version_is_and_when_it_served(run: Run) -> None:
    shown = run("models", "show", f"{FAMILY}@champion", "--json").told
    assert shown["model"] == "late_flights/2"
    assert shown["parameters"]["iterations"] == "40"
    assert shown["learnt_from"] == {"first_day": "2013-01-01", "last_day": "2013-02-14"}
    assert shown["inputs"] == ["features/flights@0", "features/delays@0"]
    assert [found["slice"] for found in shown["slices"]]
    assert all(found["low"] < found["roc_auc"] < found["high"] for found in shown["slices"])
    assert shown["decision"]["promote"] is True
    assert shown["decision"]["opponent"] == "late_flights/1"
    [period] = shown["served"]
    assert (period["until"], period["actor"], period["reason"]) == (None, "test", "a test")
    [before] = run("models", "show", "late_flights/1", "--json").told["served"]
    assert before["until"] == period["since"]
    text = run("models", "show", "late_flights/2").stdout
    for expected in ("late_flights/2 (champion)", "iterations", "Slices on", "different answers"):
        assert expected in text
    assert "never" in run("models", "show", "late_flights/3").stdout


def test_rollback_switches_and_doing_it_twice_undoes_it(run: Run, registry: Registry) -> None:
    entry = run("models", "rollback", FAMILY, "--reason", "it is wrong", "--yes", "--json").told
    assert (entry["from_version"], entry["to_version"]) == (2, 1)
    assert champion(registry) == "late_flights/1"
    undone = run(
        "models", "rollback", FAMILY, "--reason", "it was right", "--actor", "ann", "--yes"
    )
    assert undone.returncode == 0, undone.stderr
    assert "late_flights/2 is champion, instead of late_flights/1" in undone.stdout
    assert "Undo: mlops models rollback late_flights" in undone.stdout
    last = ledger.read(registry.lake)[-1]
    assert (last.actor, last.reason) == ("ann", "it was right")
    assert champion(registry) == "late_flights/2"


def test_promotion_by_hand_goes_past_the_gate_and_can_be_undone(
    run: Run, registry: Registry
) -> None:
    entry = run(
        "models", "promote", "late_flights/3", "--reason", "a drill", "--yes", "--json"
    ).told
    assert (entry["event"], entry["to_version"]) == ("promoted", 3)
    assert entry["actor"]
    assert champion(registry) == "late_flights/3"
    again = run("models", "promote", "late_flights/3", "--reason", "a drill", "--yes")
    assert again.returncode == 1
    assert "late_flights/3 is already champion" in again.stderr
    back = run(
        "models", "rollback", FAMILY, "--to", "2", "--reason", "over", "--yes", "--json"
    ).told
    assert back["to_version"] == 2


def test_a_switch_needs_a_reason_and_a_yes(run: Run, registry: Registry) -> None:
    for arguments, missing in (
        (("rollback", FAMILY, "--yes"), "--reason"),
        (("rollback", FAMILY, "--yes", "--reason", " "), "--reason"),
        (("rollback", FAMILY, "--reason", "x"), "--yes"),
        (("promote", "late_flights/1", "--yes"), "--reason"),
        (("promote", "late_flights/1", "--reason", "x"), "--yes"),
    ):
        refused = run("models", *arguments)
        assert refused.returncode == 2, arguments
        assert missing in refused.stderr
    assert champion(registry) == "late_flights/2"


def test_what_is_not_there_is_an_error_that_lists_what_is(run: Run) -> None:
    for arguments, said in (
        (("show", "late_flights/9"), "there is late_flights/3, late_flights/2"),
        (("show", "late_flights"), "write flight_delay/3 or flight_delay@champion"),
        (("promote", "other/1", "--reason", "x", "--yes"), "'other': there is no version of it"),
        (("rollback", "other", "--reason", "x", "--yes"), "'other': there is no version of it"),
        (("rollback", FAMILY, "--to", "9", "--reason", "x", "--yes"), "there is no version 9"),
        (("card", "late_flights/2"), "late_flights/2 has no model card"),
    ):
        refused = run("models", *arguments)
        assert refused.returncode == 1, arguments
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr


def test_reproduce_says_what_is_the_same_and_ends_with_0(run: Run) -> None:
    found = run("models", "reproduce", "late_flights/2", "--from", "training-set", "--json").told
    assert found["reproduced"] is True
    assert found["answers"]["different"] == 0
    assert found["data"] is None
    assert {change["what"] for change in found["changes"]} >= {"git commit"}  # made up here


def test_reproduce_says_what_stands_in_its_way_and_ends_with_1(run: Run) -> None:
    found = run("models", "reproduce", "late_flights/2")  # the project has no such feature view
    assert found.returncode == 1
    assert "training/late_flights@0 cannot be built again" in found.stdout
    assert "delays" in found.stdout
    assert "the same to the last bit" in found.stdout
    assert "git worktree add ../then abc123" in found.stdout
    assert "late_flights/2 is NOT reproduced" in found.stdout


def test_vacuum_keeps_what_the_versions_learnt_from(
    home: Path, run: Run, registry: Registry
) -> None:
    lake = Lake.from_settings(load_settings(home=home))
    learnt = registry.find(f"{FAMILY}@champion").training_set
    assert learnt.version == 0
    lake.overwrite(learnt.table, lake.read(learnt.table, 0).read_all())
    held = lake.read(learnt.table, 0).read_all().num_rows
    arguments = ("tables", "vacuum", str(learnt.table), "--retention-days", "0", "--delete")
    done = mlops(home, *arguments)
    assert done.returncode == 0, done.stderr
    assert "deleted 0 files" in done.stdout
    assert "versions [0]" in done.stdout
    assert lake.read(learnt.table, 0).read_all().num_rows == held
    assert lake.vacuum(learnt.table, timedelta(0), dry_run=True).pinned_versions == (0,)
    assert run("models", "reproduce", f"{FAMILY}@previous", "--from", "training-set", "--json").told
