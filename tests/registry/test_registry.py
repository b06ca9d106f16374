"""What goes into the registry comes out as it was, and says where it is from."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.lake import Lake
from mlops_assets.registry import (
    Alias,
    LoggedCandidate,
    ModelNotFoundError,
    ModelReference,
    ModelVersion,
    Provenance,
    Registry,
    RegistryError,
    collect_provenance,
    ledger,
    promotion,
)
from mlops_assets.registry.errors import PromotionError
from mlops_assets.registry.ledger import Event
from mlops_assets.registry.lock import family_lock
from mlops_assets.training import ModelFamily
from mlops_assets.training.candidate import Candidate
from mlops_assets.training.dataset import Part
from mlops_assets.training.training_set import TrainingSet
from tests.registry.conftest import judge_version as crown

Train = Callable[[str], Candidate]
Register = Callable[[str], ModelVersion]


@pytest.fixture
def log(
    registry: Registry,
    family: ModelFamily,
    parts: dict[str, Part],
    training_set: TrainingSet,
    provenance: Provenance,
    train: Train,
) -> Callable[[str], LoggedCandidate]:
    return lambda name: registry.log_candidate(
        train(name), family, parts["test"], training_set.inputs, provenance
    )


@pytest.fixture
def register(
    registry: Registry, family: ModelFamily, log: Callable[[str], LoggedCandidate]
) -> Register:
    return lambda name: registry.register(log(name), family)


def champion(registry: Registry) -> int | None:
    found = registry.find_or_none(ModelReference("late_flights", alias=Alias.champion))
    return found.version if found else None


def events(registry: Registry) -> list[tuple[Event, int | None, int | None]]:
    return [(e.event, e.from_version, e.to_version) for e in ledger.read(registry.lake)]


@pytest.mark.parametrize("name", ["linear", "catboost"])
def test_a_model_comes_out_as_it_went_in(
    name: str,
    registry: Registry,
    family: ModelFamily,
    parts: dict[str, Part],
    training_set: TrainingSet,
    provenance: Provenance,
    train: Train,
):
    candidate = train(name)
    logged = registry.log_candidate(
        candidate, family, parts["test"], training_set.inputs, provenance
    )
    version = registry.register(logged, family)
    expected = candidate.test.answers
    for reference in (version, logged, "late_flights/1"):
        loaded = registry.load(reference)
        np.testing.assert_array_equal(loaded.predict(parts["test"].features), expected)
    registry.verify(version)
    assert version.metrics["test_roc_auc"] == candidate.test.value("roc_auc")
    assert version.training_set == training_set.version
    assert version.inputs == training_set.inputs
    assert version.threshold == candidate.threshold
    assert str(version.last_day) == "2013-02-14"
    assert registry.find("late_flights/1") == version


@pytest.mark.parametrize("name", ["linear", "catboost"])
def test_mlflows_own_tools_see_signature_example_data_and_a_model_that_answers(
    name: str, registry: Registry, register: Register, monkeypatch: pytest.MonkeyPatch
):
    import mlflow

    version = register(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)  # as a user would
    info = mlflow.models.get_model_info("models:/late_flights/1")
    assert [c.name for c in info.signature.inputs] == ["recent_delay", "wind", "carrier"]
    assert set(info.flavors) == {"sklearn" if name == "linear" else "catboost", "python_function"}
    model = mlflow.pyfunc.load_model("models:/late_flights/1")
    assert len(model.predict(model.input_example)) == 20
    run = registry.client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_roc_auc_low"] < run.data.metrics["test_roc_auc"]
    assert run.data.tags["mlops.git_commit"] == "abc123"
    assert run.data.tags["mlops.lockfile_sha256"] == "0" * 64
    assert run.data.tags["mlops.dbt_manifest_sha256"] == "1" * 64
    assert run.data.params["seed"] == "5"
    assert run.data.params["threads"] == "1"
    datasets = {d.dataset.name: d.dataset for d in run.inputs.dataset_inputs}
    assert set(datasets) == {"training/late_flights", "features/flights", "features/delays"}
    assert json.loads(datasets["features/delays"].source)["delta_table_version"] == 0
    if name == "catboost":
        curve = registry.client.get_metric_history(version.run_id, "log_loss/validation")
        assert [m.step for m in curve] == list(range(len(curve)))
        assert curve[-1].value < curve[0].value


def test_a_version_pins_every_table_it_learnt_from(
    lake: Lake, register: Register, training_set: TrainingSet
):
    version = register("linear")
    pinned = {(pin.table, pin.version) for pin in lake.pins() if pin.owner == str(version)}
    assert pinned == {(t.table, t.version) for t in (training_set.version, *training_set.inputs)}


def test_registering_the_same_candidate_again_makes_no_second_version(
    registry: Registry, family: ModelFamily, log: Callable[[str], LoggedCandidate], lake: Lake
):
    logged = log("linear")
    first, pins = registry.register(logged, family), len(lake.pins())
    assert registry.register(logged, family) == first
    assert len(registry.versions("late_flights")) == 1
    assert len(lake.pins()) == pins


def test_the_newest_run_of_each_candidate_is_found_by_training_set(
    registry: Registry, log: Callable[[str], LoggedCandidate], training_set: TrainingSet
):
    assert registry.candidates("late_flights") == ()
    old, new, other = log("linear"), log("linear"), log("weak")
    found = {c.name: c for c in registry.candidates("late_flights", training_set.version)}
    assert found == {"linear": new, "weak": other}
    assert old.run_id != new.run_id
    from mlops_assets.lake import TableVersion

    elsewhere = TableVersion.parse("training/late_flights@99")
    assert registry.candidates("late_flights", elsewhere) == ()


def test_the_first_champion_must_beat_the_baseline_and_the_next_the_champion(
    registry: Registry, family: ModelFamily, register: Register
):
    weak, strong = register("weak"), register("catboost")
    outcome = crown(registry, family, weak)
    assert outcome.decision.opponent == "baseline"
    assert outcome.decision.promote
    assert champion(registry) == weak.version
    outcome = crown(registry, family, strong)
    assert outcome.decision.opponent == str(weak)
    assert outcome.decision.promote
    assert champion(registry) == strong.version
    aliases = {v.version: v.aliases for v in registry.versions("late_flights")}
    assert aliases == {weak.version: (Alias.previous,), strong.version: (Alias.champion,)}
    refused = crown(registry, family, weak)
    assert not refused.decision.promote
    assert champion(registry) == strong.version
    assert events(registry) == [
        (Event.promoted, None, 1),
        (Event.promoted, 1, 2),
        (Event.refused, 2, 2),
    ]
    entry = ledger.read(registry.lake, "late_flights")[1]
    assert entry.low > entry.minimum_gain
    assert json.loads(entry.decision)["challenger"] == "late_flights/2"


def test_a_model_does_not_replace_itself_or_its_double(
    registry: Registry, family: ModelFamily, register: Register
):
    first, double = register("catboost"), register("catboost")
    crown(registry, family, first)
    for version in (first, double):
        outcome = crown(registry, family, version)
        assert not outcome.decision.promote
        assert "both give the same answer to every row" in outcome.decision.summary
    assert champion(registry) == first.version


def test_a_family_whose_candidates_are_no_better_than_the_baseline_gets_no_champion(
    registry: Registry, declare: Callable[..., ModelFamily], register: Register
):
    demanding = declare(gate={"minimum_gain": 0.45, "draws": 400})
    outcome = crown(registry, demanding, register("catboost"))
    assert not outcome.decision.promote
    assert outcome.champion is None
    assert champion(registry) is None


def test_rolling_back_goes_to_the_model_before_and_can_be_undone(
    registry: Registry, family: ModelFamily, register: Register
):
    for name in ("weak", "catboost"):
        crown(registry, family, register(name))
    entry = promotion.roll_back(registry, "late_flights", actor="ann", reason="it is wrong")
    assert (entry.from_version, entry.to_version, entry.actor) == (2, 1, "ann")
    assert champion(registry) == 1
    promotion.roll_back(registry, "late_flights", actor="ann", reason="it was right")
    assert champion(registry) == 2
    with pytest.raises(PromotionError, match="late_flights/2 is already champion"):
        promotion.roll_back(registry, "late_flights", actor="ann", reason="?", to=2)
    with pytest.raises(PromotionError, match="there is no version 9"):
        promotion.roll_back(registry, "late_flights", actor="ann", reason="?", to=9)


def test_there_must_be_something_to_roll_back_to(
    registry: Registry, family: ModelFamily, register: Register
):
    with pytest.raises(PromotionError, match="no champion"):
        promotion.roll_back(registry, "late_flights", actor="ann", reason="?")
    crown(registry, family, register("catboost"))
    with pytest.raises(PromotionError, match="is its first champion"):
        promotion.roll_back(registry, "late_flights", actor="ann", reason="?")


@pytest.mark.parametrize("damage", ["truncated", "missing", "other model"])
def test_a_model_that_no_longer_answers_as_it_did_is_never_switched_to(
    damage: str, registry: Registry, family: ModelFamily, register: Register
):
    for name in ("weak", "catboost"):
        crown(registry, family, register(name))
    folders = [
        Path(registry.client.get_logged_model(v.model_id).artifact_location.removeprefix("file://"))
        for v in registry.versions("late_flights")
    ]
    strong, weak = (folder / "model.cb" for folder in folders)
    if damage == "truncated":
        weak.write_bytes(weak.read_bytes()[:200])
    elif damage == "missing":
        weak.unlink()
    else:
        weak.write_bytes(strong.read_bytes())
    before = events(registry)
    with pytest.raises(RegistryError, match=r"CatBoost cannot read it|away from what it did"):
        promotion.roll_back(registry, "late_flights", actor="ann", reason="?")
    assert champion(registry) == 2
    assert registry.find("late_flights@previous").version == 1
    assert events(registry) == before


def test_a_decision_against_a_champion_of_the_past_is_refused(
    registry: Registry, family: ModelFamily, register: Register
):
    weak, strong = register("weak"), register("catboost")
    stale = promotion.judge(registry, family, strong, seed=5)
    crown(registry, family, weak)
    with pytest.raises(PromotionError, match="judged against baseline, but late_flights/1"):
        promotion.promote(registry, stale, actor="test", reason="late")
    assert champion(registry) == 1


def test_only_one_process_switches_at_a_time(
    registry: Registry, register: Register, tmp_path: Path
):
    version = register("linear")
    program = (
        "import sys, time; from pathlib import Path\n"
        "from mlops_assets.registry.lock import family_lock\n"
        "with family_lock(Path(sys.argv[1]), 'late_flights'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(registry.locks)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(PromotionError, match="another promotion or rollback has held"),
            family_lock(registry.locks, "late_flights", timeout=0.2),
        ):
            pytest.fail("two processes hold the lock")
        other.kill()
    promotion.set_challenger(registry, version)  # the killed holder's lock is gone
    assert registry.find("late_flights@challenger").version == version.version


def test_what_is_not_there_is_said_with_what_is(registry: Registry, register: Register):
    with pytest.raises(ModelNotFoundError, match="there is no version of it"):
        registry.find("late_flights@champion")
    register("linear")
    with pytest.raises(
        ModelNotFoundError, match="no model late_flights/7; there is late_flights/1"
    ):
        registry.load("late_flights/7")
    assert registry.families() == ("late_flights",)
    assert registry.versions("unknown") == ()


@pytest.mark.parametrize("text", ["late", "late/0", "late/x", "late@king", "late@champion/1", "/1"])
def test_a_name_that_is_none_is_refused(text: str):
    with pytest.raises(RegistryError, match=r"names no model|no alias"):
        ModelReference.parse(text)


def test_a_baseline_is_never_registered(
    registry: Registry,
    family: ModelFamily,
    parts: dict[str, Part],
    training_set: TrainingSet,
    provenance: Provenance,
    train: Train,
):
    from dataclasses import replace

    from mlops_assets.training.candidate import train_baseline

    yardstick = replace(train("linear"), estimator=train_baseline(family, parts))
    with pytest.raises(RegistryError, match="Baseline has flavor ''"):
        registry.log_candidate(yardstick, family, parts["test"], training_set.inputs, provenance)
    assert registry.candidates("late_flights") == ()


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path, lake: Lake):
    broken = tmp_path / "broken.db"
    broken.write_text("this is no database, whatever its name says" * 30)
    registry = Registry(f"sqlite:///{broken}", tmp_path.as_uri(), lake, tmp_path)
    with pytest.raises(
        RegistryError, match=r"broken\.db cannot be opened(?s:.*)MLOPS_TRACKING_URI"
    ):
        registry.versions("late_flights")


def test_importing_the_registry_imports_no_heavy_library():
    heavy = ("mlflow", "catboost", "sklearn", "pandas", "matplotlib", "scipy")
    program = f"import mlops_assets.registry, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_logging_says_nothing_on_the_terminal(
    register: Register, capfd: pytest.CaptureFixture[str]
):
    register("linear")
    register("catboost")
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""


def test_provenance_knows_commit_changes_and_lockfile(tmp_path: Path):
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip

    assert collect_provenance(tmp_path).git_commit == "unknown"
    git("init")
    (tmp_path / "constraints.txt").write_text("numpy==2.4\n")
    assert collect_provenance(tmp_path).git_commit == "unknown"
    git("add", "."), git("commit", "-m", "first")
    clean = collect_provenance(tmp_path)
    assert len(clean.git_commit) == 40
    assert len(clean.lockfile_sha256) == 64
    (tmp_path / "constraints.txt").write_text("numpy==2.5\n")
    changed = collect_provenance(tmp_path)
    assert changed.git_commit == f"{clean.git_commit}+changes"
    assert changed.lockfile_sha256 != clean.lockfile_sha256
    with pytest.raises(RegistryError, match="no dbt manifest"):
        collect_provenance(tmp_path, tmp_path / "manifest.json")
