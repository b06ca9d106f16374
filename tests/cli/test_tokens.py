"""``mlops tokens``: what it prints, what it changes, how it ends."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.cli.main import run as run_command
from mlops_assets.serving.security import Authenticator, Scope, UnauthenticatedError
from mlops_assets.settings import current_settings


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def told(self) -> Any:
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout)


Run = Callable[..., Done]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    current_settings.cache_clear()

    def run(*arguments: str) -> Done:
        monkeypatch.setattr("sys.argv", ["mlops", "tokens", *arguments])
        capsys.readouterr()
        code = run_command()
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    yield run
    current_settings.cache_clear()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "serving" / "tokens.json"


def is_valid(tokens: Path, secret: str, scope: Scope = Scope.predict) -> bool:
    found = Authenticator(tokens, host="0.0.0.0", report=lambda *_: None)  # noqa: S104 - not bound
    try:
        found.check(f"Bearer {secret}".encode(), scope)
    except UnauthenticatedError:
        return False
    return True


def test_create_prints_the_secret_alone_for_scripts(run: Run, tokens: Path) -> None:
    created = run("create", "shop")
    assert created.returncode == 0, created.stderr
    [secret] = created.stdout.splitlines()
    assert is_valid(tokens, secret)
    assert secret not in created.stderr
    assert "shown this once" in created.stderr
    [token] = run("list", "--json").told
    assert (token["name"], token["scopes"], token["state"]) == ("shop", ["predict"], "valid")
    assert token["last_four"] == secret[-4:]


def test_a_token_lives_ninety_days_unless_told_otherwise(run: Run) -> None:
    def days(*arguments: str) -> float | None:
        token = run("create", *arguments, "--json").told
        if token["expires_at"] is None:
            return None
        lived = datetime.fromisoformat(token["expires_at"]) - datetime.fromisoformat(
            token["created_at"]
        )
        return lived / timedelta(days=1)

    assert days("a") == 90
    assert days("b", "--expires", "PT12H") == 0.5
    assert days("c", "--expires", "never") is None


def test_scopes_add_up_and_wrong_ones_are_refused(run: Run, tokens: Path) -> None:
    token = run("create", "shop", "--scope", "explain", "--scope", "predict", "--json").told
    assert token["scopes"] == ["explain", "predict"]
    assert is_valid(tokens, token["secret"], Scope.explain)
    refused = run("create", "bank", "--scope", "predikt")
    assert refused.returncode == 2
    assert "did you mean 'predict'" in " ".join(refused.stderr.split())


def test_rotate_keeps_the_old_secret_for_the_overlap(run: Run, tokens: Path) -> None:
    first = run("create", "shop").stdout.strip()
    second = run("rotate", "shop", "--overlap", "PT1H").stdout.strip()
    assert second != first
    assert is_valid(tokens, first)
    assert is_valid(tokens, second)
    [token] = run("list", "--json").told
    assert f"the old secret (…{first[-4:]}) until" in token["state"]
    assert "old secret" in run("list").stdout

    third = run("rotate", "shop", "--overlap", "none").stdout.strip()
    assert [is_valid(tokens, secret) for secret in (first, second, third)] == [False, False, True]
    assert run("list", "--json").told[0]["state"] == "valid"


def test_revoke_asks_first_and_says_what_holds_then(run: Run, tokens: Path) -> None:
    secret = run("create", "shop").stdout.strip()
    unasked = run("revoke", "shop")
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    assert is_valid(tokens, secret)
    revoked = run("revoke", "shop", "--yes")
    assert revoked.returncode == 0, revoked.stderr
    assert "every call is refused" in revoked.stdout
    assert not is_valid(tokens, secret)
    assert "every call is refused" in run("list").stdout


def test_without_tokens_the_list_says_what_that_means(run: Run, tokens: Path) -> None:
    assert "loopback answers everybody" in run("list").stdout
    assert run("list", "--json").told == []
    assert not tokens.parent.exists()


def test_refusals_end_with_1_and_wrong_usage_with_2(run: Run) -> None:
    for arguments, code, said in (
        (("rotate", "shop"), 1, "no token 'shop'"),
        (("revoke", "shop", "--yes"), 1, "no token 'shop'"),
        (("create", "a b"), 1, "cannot name a token"),
        (("create", "shop", "--expires", "90 days"), 2, "P1DT12H"),
        (("create", "shop", "--expires", "PT0S"), 2, "--expires"),
        (("rotate", "shop", "--overlap", "soon"), 2, "--overlap"),
        (("create",), 2, "name"),
    ):
        refused = run(*arguments)
        assert refused.returncode == code, arguments
        assert said in " ".join(refused.stderr.split()), arguments
        assert "Traceback" not in refused.stderr
