"""``mlops alerts``: what it prints, what it sends, how it ends."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.alerting import AlertBook, AlertKind, AlertState, Occurrence, declared_alerts
from mlops_assets.cli.main import run as run_command
from mlops_assets.lake import Lake
from mlops_assets.settings import current_settings
from tests.alerting.receivers import Hook, webhook

DECLARED = """
type: mlops_assets.orchestration.alerts.AlertRules
attributes:
  sinks:
    - {name: hook, url: "${HOOK_URL}"}
    - {name: other, url: "${OTHER_URL}"}
  alerts:
    - {name: data, kinds: [stale_asset], sinks: [hook]}
"""


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def told(self) -> Any:
        return json.loads(self.stdout)


Run = Callable[..., Done]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLOPS_PROJECT_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COLUMNS", "200")
    defs = tmp_path / "mlops_assets" / "defs"
    defs.mkdir(parents=True)
    (defs / "defs.yaml").write_text(DECLARED)
    current_settings.cache_clear()

    def run(*arguments: str) -> Done:
        monkeypatch.setattr("sys.argv", ["mlops", "alerts", *arguments])
        capsys.readouterr()
        code = run_command()
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    yield run
    current_settings.cache_clear()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with webhook() as hook:
        monkeypatch.setenv("HOOK_URL", hook.address)
        yield hook


def book() -> AlertBook:
    settings = current_settings()
    declared = declared_alerts(settings.project_root / "mlops_assets" / "defs")
    assert declared is not None
    return AlertBook(Lake.from_settings(settings), declared)


def test_test_says_of_each_sink_what_happened(
    run: Run, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = run("test")
    assert tried.returncode == 1
    assert "the environment variable OTHER_URL is not set" in tried.stdout
    assert run("test", "other").returncode == 1
    monkeypatch.setenv("OTHER_URL", hook.address)
    tried = run("test", "--json")
    assert (tried.returncode, tried.told) == (
        0,
        [{"sink": "hook", "problem": None}, {"sink": "other", "problem": None}],
    )
    assert len(hook.calls) == 3
    assert {call["title"] for call in hook.calls} == {"TEST: alerts of mlops reach this place"}
    unknown = run("test", "hok")
    assert unknown.returncode == 1
    assert "'hok' is no declared sink; did you mean 'hook'?" in unknown.stderr
    assert run("list", "--all", "--json").told == []


def test_an_alert_from_its_list_to_its_end(run: Run, hook: Hook) -> None:
    assert "none is open" in run("list").stdout
    hook.status = 500
    [alert] = book().record([Occurrence(AlertKind.stale_asset, "raw/flights", "1", "It is stale.")])
    failed = run("retry")
    assert failed.returncode == 1
    assert "500" in failed.stdout
    [listed] = run("list", "--json").told
    assert (listed["alert_id"], listed["state"], listed["undelivered"]) == (
        alert.alert_id,
        "open",
        ["hook"],
    )
    assert "stale_asset: raw/flights" in run("list").stdout
    hook.status = 200
    sent = run("retry", "--json")
    assert (sent.returncode, len(sent.told["sent"])) == (0, 1)
    assert len(hook.calls) == 1

    done = run("acknowledge", alert.alert_id[:5], "--by", "ada", "--note", "on it")
    assert f"alert {alert.alert_id} is acknowledged by ada" in done.stdout
    shown = run("show", alert.alert_id)
    assert "It is stale." in shown.stdout
    told = run("show", alert.alert_id, "--json").told
    assert [one["change"] for one in told["history"]] == [
        *("raised", "sending", "failed", "sending", "sent", "acknowledged")
    ]
    assert told["note"] == "on it"
    again = run("acknowledge", alert.alert_id)
    assert again.returncode == 1
    assert "was acknowledged by ada" in again.stderr

    book().resolve(AlertKind.stale_asset, ["raw/flights"], "fresh")
    assert run("list", "--json").told == []
    [ended] = run("list", "--all", "--json").told
    assert ended["state"] == AlertState.resolved
    assert "RESOLVED" in run("show", alert.alert_id).stdout


def test_without_a_declaration_it_says_what_to_do(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mlops_assets" / "defs" / "defs.yaml").unlink()
    refused = run("test")
    assert refused.returncode == 1
    assert "docs/how-to/alerts.md" in refused.stderr
