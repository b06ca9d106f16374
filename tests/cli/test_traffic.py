"""``mlops shadow`` and ``mlops canary``: what they print, what they change, how they end."""

import getpass
from pathlib import Path

import pytest

from mlops_assets.serving.routing import (
    Arm,
    ArmCounter,
    CanaryMonitor,
    counts_folder,
    deployed_contests,
    plan,
    read_traffic,
)
from mlops_assets.serving.routing.traffic import FILE, FamilyTraffic
from tests.cli.conftest import Run
from tests.serving.routing.conftest import deploy


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "serving"


def test_shadow_is_switched_and_says_who_did_it(run: Run, folder: Path) -> None:
    deploy(folder, delay={})
    assert run("shadow", "delay", "--json").told["shadow"] is False
    on = run("shadow", "delay", "on", "--actor", "anna", "--reason", "release 7")
    assert on.returncode == 0, on.stderr
    assert "shadow of delay: on (switched on by anna" in on.stdout
    assert "release 7" in on.stdout
    assert run("shadow", "delay", "--json").told["shadow"] is True
    assert run("shadow", "delay", "off", "--json").told["shadow"] is False
    switch = read_traffic(folder / FILE).of("delay").shadow
    assert switch is not None
    assert switch.by == getpass.getuser()


def test_a_canary_is_started_shown_and_stopped(run: Run, folder: Path) -> None:
    deploy(folder, delay={})
    assert "none is declared or started" in run("canary", "delay").stdout
    started = run("canary", "delay", "start", "--share", "0.1")
    assert started.returncode == 0, started.stderr
    assert "canary of delay: on for 10.0% of the entities" in started.stdout

    contest = deployed_contests(folder)["delay"]
    experiment = plan(contest, read_traffic(folder / FILE).of("delay")).canary
    assert experiment is not None
    counter = ArmCounter(counts_folder(folder, experiment))
    for number in range(40):
        counter.request(Arm.champion, failed=False)
        counter.request(Arm.canary, failed=number < 2)
    counter.close()
    shown = run("canary", "delay", "status", "--json").told
    assert (shown["champion"], shown["challenger"], shown["share"]) == (6, 7, 0.1)
    champion, canary = shown["arms"]
    assert (champion["requests"], canary["requests"], canary["failed"]) == (40, 40, 2)
    assert canary["low"] < canary["failure rate"] < canary["high"]
    assert shown["verdict"].startswith("continue (failed: canary 5.00% of 40")
    assert "Verdict: continue" in run("canary", "delay").stdout

    assert run("canary", "delay", "stop", "--json").told["canary"] is False
    assert "switched off by" in run("canary", "delay").stdout


def test_a_canary_that_the_test_stopped_says_why_and_starts_anew(run: Run, folder: Path) -> None:
    deploy(folder, delay={"canary": {"share": 0.2}})
    contest = deployed_contests(folder)["delay"]
    experiment = plan(contest, FamilyTraffic()).canary
    assert experiment is not None
    counter = ArmCounter(counts_folder(folder, experiment))
    for _ in range(100):
        counter.request(Arm.champion, failed=False)
        counter.request(Arm.canary, failed=True)
    counter.close()
    CanaryMonitor(folder, lambda *_: None).look([contest])

    shown = run("canary", "delay", "--json").told
    assert shown["canary"] is False
    assert "canary 100.00% of 100" in shown["canary_why"]
    assert [verdict["verdict"] for verdict in shown["verdicts"]] == ["stop_worse"]
    assert run("canary", "delay", "start", "--json").told["canary"] is True


def test_without_a_challenger_the_switch_waits_for_one(run: Run, folder: Path) -> None:
    deploy(folder, delay={"challenger": None})
    assert "off (there is no challenger)" in run("canary", "delay", "start").stdout
    deploy(folder, delay={})
    assert run("canary", "delay", "--json").told["canary"] is True


def test_refusals_end_with_1_and_wrong_usage_with_2(run: Run, folder: Path) -> None:
    deploy(folder, delay={})
    for arguments, code, said in (
        (("canary", "dalay", "start"), 1, "no model family 'dalay'; did you mean 'delay'"),
        (("shadow", "other", "on"), 1, "no model family 'other'"),
        (("canary", "delay", "start", "--share", "0.7"), 1, "at most 0.5"),
        (("canary", "delay", "stop", "--share", "0.1"), 2, "belongs to start"),
        (("canary", "delay", "begin"), 2, "'begin'"),
        (("shadow",), 2, "family"),
    ):
        refused = run(*arguments)
        assert refused.returncode == code, (arguments, refused.stdout, refused.stderr)
        assert said in " ".join(refused.stderr.split()), refused.stderr
        assert "Traceback" not in refused.stderr
    assert not (folder / FILE).exists()
