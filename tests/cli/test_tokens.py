"""``mlops tokens``: what it prints, what it changes, how it ends."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mlops_assets.serving.security import Authenticator, Scope, UnauthenticatedError
from tests.cli.conftest import Run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def tokens(home: Path) -> Path:
    return home / "serving" / "tokens.json"


def is_valid(tokens: Path, secret: str, scope: Scope = Scope.predict) -> bool:
    found = Authenticator(tokens, host="0.0.0.0", report=lambda *_: None)  # noqa: S104 - not bound
    try:
        found.check(f"Bearer {secret}".encode(), scope)
    except UnauthenticatedError:
        return False
    return True


def test_create_prints_the_secret_alone_for_scripts(run: Run, tokens: Path) -> None:
    created = run("tokens", "create", "shop")
    assert created.returncode == 0, created.stderr
    [secret] = created.stdout.splitlines()
    assert is_valid(tokens, secret)
    assert secret not in created.stderr
    assert "shown this once" in created.stderr
    [token] = run("tokens", "list", "--json").told
    assert (token["name"], token["scopes"], token["state"]) == ("shop", ["predict"], "valid")
    assert token["last_four"] == secret[-4:]


def test_a_token_lives_ninety_days_unless_told_otherwise(run: Run) -> None:
    def days(*arguments: str) -> float | None:
        token = run("tokens", "create", *arguments, "--json").told
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
    token = run(
        "tokens", "create", "shop", "--scope", "explain", "--scope", "predict", "--json"
    ).told
    assert token["scopes"] == ["explain", "predict"]
    assert is_valid(tokens, token["secret"], Scope.explain)
    refused = run("tokens", "create", "bank", "--scope", "predikt")
    assert refused.returncode == 2
    assert "did you mean 'predict'" in " ".join(refused.stderr.split())


def test_rotate_keeps_the_old_secret_for_the_overlap(run: Run, tokens: Path) -> None:
    first = run("tokens", "create", "shop").stdout.strip()
    second = run("tokens", "rotate", "shop", "--overlap", "PT1H").stdout.strip()
    assert second != first
    assert is_valid(tokens, first)
    assert is_valid(tokens, second)
    [token] = run("tokens", "list", "--json").told
    assert f"the old secret (…{first[-4:]}) until" in token["state"]
    assert "old secret" in run("tokens", "list").stdout

    third = run("tokens", "rotate", "shop", "--overlap", "none").stdout.strip()
    assert [is_valid(tokens, secret) for secret in (first, second, third)] == [False, False, True]
    assert run("tokens", "list", "--json").told[0]["state"] == "valid"


def test_revoke_asks_first_and_says_what_holds_then(run: Run, tokens: Path) -> None:
    secret = run("tokens", "create", "shop").stdout.strip()
    unasked = run("tokens", "revoke", "shop")
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    assert is_valid(tokens, secret)
    revoked = run("tokens", "revoke", "shop", "--yes")
    assert revoked.returncode == 0, revoked.stderr
    assert "every call is refused" in revoked.stdout
    assert not is_valid(tokens, secret)
    assert "every call is refused" in run("tokens", "list").stdout


def test_without_tokens_the_list_says_what_that_means(run: Run, tokens: Path) -> None:
    assert "loopback answers everybody" in run("tokens", "list").stdout
    assert run("tokens", "list", "--json").told == []
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
        refused = run("tokens", *arguments)
        assert refused.returncode == code, arguments
        assert said in " ".join(refused.stderr.split()), arguments
        assert "Traceback" not in refused.stderr
