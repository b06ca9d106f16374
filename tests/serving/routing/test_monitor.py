"""The watch over canaries: what is worse is stopped, once, and stays stopped."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_assets.serving.routing import (
    Arm,
    ArmCounter,
    CanaryMonitor,
    Router,
    TrafficStore,
    Verdict,
    canary_state,
    counts_folder,
    deployed_contests,
    plan,
    read_counts,
)
from mlops_assets.serving.routing.traffic import Experiment, FamilyTraffic
from mlops_assets.serving.security import StateFileError
from tests.serving.routing.conftest import Clock, Events, Family, deploy, make_family

WORKER = """
import sys, time
from pathlib import Path
from mlops_assets.serving.routing import Arm, ArmCounter

counter = ArmCounter(Path(sys.argv[1]))
for _ in range(1000):
    counter.request(Arm.champion, failed=False)
for number in range(200):
    counter.request(Arm.canary, failed=number % 2 == 0)
print("counted", flush=True)
time.sleep(600)
"""


def experiment_of(family: Family) -> Experiment:
    experiment = plan(family.contest, FamilyTraffic()).canary
    assert experiment is not None
    return experiment


def count(folder: Path, family: Family, arm: Arm, requests: int, failed: int) -> None:
    counter = ArmCounter(counts_folder(folder, experiment_of(family)))
    for number in range(requests):
        counter.request(arm, failed=number < failed)
    counter.close()


def test_a_worse_canary_is_stopped_reported_once_and_stays_stopped(
    folder: Path, store: TrafficStore, events: Events, router: Router, clock: Clock
) -> None:
    family = make_family({"share": 0.5})
    assert any(router.arm(family, str(key), "r") == "canary" for key in range(100))
    count(folder, family, Arm.champion, 2_000, 2)
    count(folder, family, Arm.canary, 100, 30)

    monitor = CanaryMonitor(folder, events)
    [state] = monitor.look([family.contest])
    assert state.verdict is Verdict.stop_worse
    for _ in range(3):
        assert monitor.look([family.contest]) == ()
    assert CanaryMonitor(folder, events).look([family.contest]) == ()  # after a restart

    assert events.kinds == ["canary_stopped"]
    assert "canary 30.00% of 100, champion 0.10% of 2,000" in events.messages[0]
    assert events.about == [{"family": "delay", "version": 7}]
    clock.at += 1
    assert all(router.arm(family, str(key), "r") == "champion" for key in range(100))
    assert plan(family.contest, store.read().of("delay")).canary is None


def test_one_that_is_as_good_goes_on_and_is_said_to_be(
    folder: Path, store: TrafficStore, events: Events
) -> None:
    family = make_family({"max_failure_increase": 0.02})
    count(folder, family, Arm.champion, 5_000, 5)
    count(folder, family, Arm.canary, 20, 0)
    monitor = CanaryMonitor(folder, events)
    assert [state.verdict for state in monitor.look([family.contest])] == [Verdict.go_on]
    count(folder, family, Arm.canary, 1_500, 2)
    for _ in range(3):
        assert [state.verdict for state in monitor.look([family.contest])] == [Verdict.done]
    assert events.kinds == ["canary_done"]
    assert store.read().of("delay").verdicts[0].reported


def test_a_verdict_whose_report_was_lost_is_reported_later(
    folder: Path, store: TrafficStore, events: Events
) -> None:
    family = make_family({})
    store.conclude(experiment_of(family), Verdict.stop_worse, "numbers")
    CanaryMonitor(folder, events).look([])
    CanaryMonitor(folder, events).look([])
    assert events.kinds == ["canary_stopped"]


def test_losses_stop_it_where_that_is_declared(folder: Path, events: Events) -> None:
    rules = {"max_loss_increase": 0.05, "max_failure_increase": 0.5}
    family, other = make_family(rules), make_family({"max_failure_increase": 0.5})
    counter = ArmCounter(counts_folder(folder, experiment_of(family)))
    for _ in range(400):
        counter.request(Arm.canary, failed=False)
        counter.request(Arm.champion, failed=False)
        counter.outcome(Arm.champion, 0.1)
        counter.outcome(Arm.canary, 0.4)
    counter.close()
    monitor = CanaryMonitor(folder, events)
    [state] = monitor.look([family.contest])
    assert state.verdict is Verdict.stop_worse
    assert state.losses is not None
    assert state.losses.difference == pytest.approx(0.3)
    assert "mean loss: canary 0.4000 of 400" in state.reason
    relaxed = canary_state(folder, replace(experiment_of(family), rules=experiment_of(other).rules))
    assert relaxed.losses is None
    assert relaxed.verdict is Verdict.done


def test_a_loss_that_is_not_bounded_is_refused(folder: Path) -> None:
    counter = ArmCounter(folder / "x")
    for loss in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            counter.outcome(Arm.canary, loss)
    counter.close()
    assert read_counts(folder / "x")[Arm.canary].losses.count == 0


def test_counts_of_killed_workers_stay(folder: Path, events: Events) -> None:
    family = make_family({})
    place = counts_folder(folder, experiment_of(family))
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(place)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"counted\n"
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(20)
        worker.stdout.close()
    counts = read_counts(place)
    assert counts[Arm.champion].failures.count == 2_000
    assert (counts[Arm.canary].failures.count, counts[Arm.canary].failures.total) == (400, 200)
    CanaryMonitor(folder, events).look([family.contest])
    assert events.kinds == ["canary_stopped"]


def test_old_counts_of_other_experiments_are_removed_and_new_ones_kept(
    folder: Path, events: Events
) -> None:
    now, long_ago, just_begun = (make_family({}, champion=champion) for champion in (6, 4, 5))
    for family in (now, long_ago, just_begun):
        count(folder, family, Arm.champion, 1, 0)
    for family in (now, long_ago):
        os.utime(counts_folder(folder, experiment_of(family)), (0, 0))
    CanaryMonitor(folder, events).look([now.contest])
    left = {path.name for path in (folder / "canary" / "delay").iterdir()}
    assert left == {experiment_of(now).name, experiment_of(just_begun).name}


def test_what_is_deployed_is_read_with_its_declaration(folder: Path) -> None:
    assert deployed_contests(folder) == {}
    deploy(folder, delay={"canary": {"share": 0.1}}, other={"challenger": None})
    found = deployed_contests(folder)
    assert found["delay"] == make_family({"share": 0.1}).contest
    assert (found["other"].challenger, found["other"].serving.canary) == (None, None)

    deploy(folder, delay={"canari": 1})
    with pytest.raises(StateFileError, match=r"delay: serving.canari: unknown key"):
        deployed_contests(folder)
