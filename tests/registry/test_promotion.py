"""Who serves changes at once or not at all, whoever is killed, waits or asks meanwhile."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.lake import TableVersion
from mlops_assets.registry import (
    Alias,
    ModelReference,
    ModelVersion,
    PromotionError,
    Registry,
    RegistryError,
    ledger,
    promotion,
)
from mlops_assets.registry.ledger import Event, LedgerEntry
from mlops_assets.registry.lock import family_lock
from mlops_assets.training import ModelFamily
from mlops_assets.training.training_set import TrainingSet
from tests.registry.conftest import judge_version, make_version

FAMILY = "late_flights"
Two = tuple[ModelVersion, ModelVersion]

# A process of its own: opens the registry of a home, then does what the rest of its code says.
OPENED = """
import os, signal, sys
from mlops_assets.registry import ModelReference, Registry, journal, ledger, promotion
from mlops_assets.settings import load_settings
registry = Registry.from_settings(load_settings(home=sys.argv[1]))
"""
KILLED = """
def die_after(module, name, call):
    real, calls = getattr(module, name), []
    def until_then(*arguments, **options):
        result = real(*arguments, **options)
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(module, name, until_then)

steps = {"journal": (journal, "intend", 1), "champion": (promotion, "_set", 1),
         "previous": (promotion, "_set", 2), "ledger": (ledger, "append", 1)}
die_after(*steps[sys.argv[2]])
promotion.promote_by_hand(
    registry, ModelReference("late_flights", 2), actor="ann", reason="she knows better")
"""
HURRIED = """
asked = promotion.serving
def serving(*arguments):
    found = asked(*arguments)
    print("asked", flush=True)
    return found
promotion.serving = serving
version = int(sys.argv[2])
promotion.promote_by_hand(
    registry, ModelReference("late_flights", version), actor=f"asker {version}", reason="mine")
"""
PREDICTING = """
import json, select
import pyarrow as pa
from mlops_assets.training.dataset import feature_frame
rows = pa.table({"recent_delay": [0.5], "wind": [0.1], "carrier": ["AA"]})
answers = []
def predict():
    model = registry.load("late_flights@champion")
    answers.extend(model.predict(feature_frame(rows, model.schema)).tolist())
predict()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    predict()
predict()
print(json.dumps(answers))
"""


def process(code: str, home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPENED + code, str(home), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def champion(registry: Registry) -> int | None:
    found = registry.find_or_none(ModelReference(FAMILY, alias=Alias.champion))
    return found.version if found else None


def events(registry: Registry) -> list[tuple[Event, int | None, int | None]]:
    return [(e.event, e.from_version, e.to_version) for e in ledger.read(registry.lake)]


@pytest.mark.parametrize("step", ["journal", "champion", "previous", "ledger"])
def test_a_promotion_killed_after_any_step_is_finished_or_forgotten_by_the_next_operation(
    step: str, registry: Registry, two_versions: Two, tmp_path: Path
):
    with process(KILLED, tmp_path, step) as killed:
        _, said = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, said

    switched = step != "journal"
    assert champion(registry) == (2 if switched else 1)
    if not switched:
        with pytest.raises(PromotionError, match="late_flights/1 is its first champion"):
            promotion.roll_back(registry, FAMILY, actor="bob", reason="unsure")
        assert events(registry) == [(Event.promoted, None, 1)]
        return
    promotion.roll_back(registry, FAMILY, actor="bob", reason="unsure")
    assert events(registry) == [
        (Event.promoted, None, 1),
        (Event.promoted, 1, 2),
        (Event.rolled_back, 2, 1),
    ]
    hers = ledger.read(registry.lake)[1]
    assert (hers.actor, hers.reason) == ("ann", "she knows better")
    assert registry.find(f"{FAMILY}@previous").version == 2
    assert list((tmp_path / "locks").glob("*.json")) == []


def test_a_champion_changed_by_a_stranger_is_written_down_and_can_be_rolled_back(
    registry: Registry, two_versions: Two
):
    registry.client.set_registered_model_alias(FAMILY, "champion", "2")
    promotion.roll_back(registry, FAMILY, actor="bob", reason="who did that?")
    assert events(registry)[1:] == [(Event.observed, 1, 2), (Event.rolled_back, 2, 1)]


def test_of_two_processes_that_promote_at_once_one_wins_and_the_other_is_told(
    registry: Registry, two_versions: Two, family: ModelFamily, training_set: TrainingSet,
    tmp_path: Path,
):  # fmt: skip
    make_version(registry, family, training_set, "linear")
    with process(HURRIED, tmp_path, "2") as one, process(HURRIED, tmp_path, "3") as other:
        with family_lock(registry.locks, FAMILY):
            for waiting in (one, other):
                assert waiting.stdout.readline() == "asked\n"
        outcomes = {2: one.communicate(), 3: other.communicate()}
        codes = {2: one.returncode, 3: other.returncode}

    [winner] = [version for version, code in codes.items() if code == 0]
    [loser] = [version for version, code in codes.items() if code == 1]
    assert f"late_flights/{winner} does now; somebody else came first" in outcomes[loser][1]
    assert champion(registry) == winner
    assert events(registry)[1:] == [(Event.promoted, 1, winner)]


def test_whoever_was_shown_another_champion_is_refused(registry: Registry, two_versions: Two):
    weak, strong = two_versions
    reference = ModelReference(FAMILY, strong.version)
    with pytest.raises(PromotionError, match="late_flights/2: nobody served when this was asked"):
        promotion.promote_by_hand(
            registry, reference, actor="ann", reason="?", instead_of=promotion.BASELINE
        )
    with pytest.raises(PromotionError, match="late_flights/2 served when this was asked"):
        promotion.roll_back(registry, FAMILY, actor="ann", reason="?", instead_of=str(strong))
    assert champion(registry) == weak.version


def test_no_prediction_fails_while_champions_are_switched(
    registry: Registry, two_versions: Two, tmp_path: Path
):
    reference = ModelReference(FAMILY, 2)
    promotion.promote_by_hand(registry, reference, actor="ann", reason="better")
    with process(PREDICTING, tmp_path) as predicting:
        assert predicting.stdout.readline() == "ready\n"
        for _ in range(7):
            promotion.roll_back(registry, FAMILY, actor="ann", reason="drill")
        out, errors = predicting.communicate("stop\n")
    assert predicting.returncode == 0, errors
    answers = json.loads(out)
    assert len(set(answers)) == 2
    assert answers[0] != answers[-1]  # an odd number of switches
    assert len(events(registry)) == 9


def test_a_model_whose_folder_is_gone_is_never_switched_to(registry: Registry, two_versions: Two):
    _, strong = two_versions
    location = registry.client.get_logged_model(strong.model_id).artifact_location
    shutil.rmtree(location.removeprefix("file://"))
    with pytest.raises(RegistryError, match="no saved estimator"):
        promotion.promote_by_hand(registry, ModelReference(FAMILY, 2), actor="ann", reason="better")
    assert champion(registry) == 1
    assert events(registry) == [(Event.promoted, None, 1)]


def test_a_model_of_which_the_data_are_gone_is_never_switched_to(
    registry: Registry, two_versions: Two
):
    _, strong = two_versions
    registry.lake.unpin(str(strong))
    files = Path(registry.lake.uri(strong.training_set.table).removeprefix("file://"))
    for file in files.glob("*.parquet"):
        file.unlink()
    shutil.rmtree(files / "_delta_log")
    with pytest.raises(PromotionError, match="a table version that it learnt from is gone"):
        promotion.promote_by_hand(registry, ModelReference(FAMILY, 2), actor="ann", reason="better")
    assert champion(registry) == 1


def test_promotion_by_hand_pins_again_what_was_released(registry: Registry, two_versions: Two):
    _, strong = two_versions
    registry.lake.unpin(str(strong))
    entry = promotion.promote_by_hand(
        registry, ModelReference(FAMILY, 2), actor="ann", reason="better"
    )
    assert (entry.actor, entry.reason, entry.to_version) == ("ann", "better", 2)
    held = {
        TableVersion(p.table, p.version) for p in registry.lake.pins() if p.owner == str(strong)
    }
    assert held == {strong.training_set, *strong.inputs}


def test_the_gates_measurements_are_in_the_ledger(
    registry: Registry, two_versions: Two, family: ModelFamily
):
    _, strong = two_versions
    outcome = judge_version(registry, family, strong)
    assert outcome.decision.promote
    kept = json.loads(ledger.read(registry.lake)[-1].decision)
    assert 0 < kept["latency"]["p50_ms"] <= kept["latency"]["p95_ms"]
    assert [c["name"] for c in kept["conditions"]] == [
        *("untouched rows", "different answers", "gain", "slices", "calibration", "latency"),
    ]


def test_a_journal_changed_by_hand_stops_the_next_operation(registry: Registry, two_versions: Two):
    path = registry.locks / f"{FAMILY}.journal.json"
    path.write_text(json.dumps({"event": "crowned"}))
    with pytest.raises(RegistryError, match=r"late_flights\.journal\.json is no journal"):
        promotion.roll_back(registry, FAMILY, actor="ann", reason="?")
    path.unlink()
    assert champion(registry) == 1


def test_a_line_of_the_ledger_is_written_once(registry: Registry):
    entry = LedgerEntry(FAMILY, Event.promoted, "ann", "better", None, 1, entry_id="one")
    for _ in range(2):
        ledger.append(registry.lake, entry)
    assert len(ledger.read(registry.lake)) == 1
