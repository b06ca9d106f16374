"""Tokens are made, rotated and revoked in a file that never holds a secret."""

import json
import stat
import subprocess
import sys
from datetime import timedelta

import pytest

from mlops_assets.serving.security import Scope, StateFileError, TokenError, TokenStore
from tests.serving.security.conftest import Clock

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_a_secret_is_shown_once_and_kept_nowhere(store: TokenStore) -> None:
    issued = store.create("shop", [Scope.predict], DAY)

    assert issued.secret.startswith("mlops_")
    assert len(issued.secret) == len("mlops_") + 43  # 256 bits in base64
    assert issued.secret not in store.path.read_text()
    assert issued.secret not in repr(issued)
    assert store.path.read_text().count(issued.secret[-4:]) == 1
    assert store.create("other", [Scope.predict]).secret != issued.secret


def test_only_its_owner_may_read_the_file(store: TokenStore) -> None:
    store.create("shop", [Scope.predict])
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_a_token_keeps_what_it_was_made_with(store: TokenStore, clock: Clock) -> None:
    issued = store.create("shop", [Scope.predict, Scope.explain, Scope.predict], DAY)

    assert store.list() == (issued.token,)
    [token] = store.list()
    assert token.name == "shop"
    assert token.scopes == (Scope.explain, Scope.predict)
    assert token.newest.created_at == clock.at
    assert token.newest.expires_at == clock.at + DAY
    assert token.newest.last_four == issued.secret[-4:]


def test_no_file_is_no_token_and_listing_makes_none(store: TokenStore) -> None:
    assert store.list() == ()
    assert not store.path.parent.exists()


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 64, "ä", "a\n", "anonymous", "../x"])
def test_a_name_that_is_none_is_refused(store: TokenStore, name: str) -> None:
    with pytest.raises(TokenError, match="cannot name a token"):
        store.create(name, [Scope.predict])
    assert store.list() == ()


def test_what_makes_no_sense_is_refused(store: TokenStore) -> None:
    with pytest.raises(TokenError, match="predict, explain, admin"):
        store.create("shop", [])
    with pytest.raises(TokenError, match="over before it begins"):
        store.create("shop", [Scope.predict], timedelta(0))
    store.create("shop", [Scope.predict])
    with pytest.raises(TokenError, match="mlops tokens rotate shop"):
        store.create("shop", [Scope.admin])
    with pytest.raises(TokenError, match="negative"):
        store.rotate("shop", overlap=-HOUR)
    with pytest.raises(TokenError, match=r"no token 'shup'.*did you mean 'shop'"):
        store.revoke("shup")
    with pytest.raises(TokenError, match=r"no token 'bank'.*there are shop"):
        store.rotate("bank")
    assert [token.name for token in store.list()] == ["shop"]


def test_rotation_ends_the_old_secret_after_the_overlap(store: TokenStore, clock: Clock) -> None:
    first = store.create("shop", [Scope.predict], 10 * DAY)
    clock.forward(DAY)
    second = store.rotate("shop", overlap=HOUR)

    old, new = second.token.secrets
    assert old.sha256 == first.token.newest.sha256
    assert old.expires_at == clock.at + HOUR
    assert new.expires_at == clock.at + 10 * DAY  # as long as the first had
    assert second.secret != first.secret


def test_rotation_never_lengthens_a_secrets_life_and_keeps_two_at_most(
    store: TokenStore, clock: Clock
) -> None:
    first = store.create("shop", [Scope.predict], HOUR)
    store.rotate("shop", overlap=10 * DAY, expires=DAY)
    third = store.rotate("shop", overlap=HOUR)

    assert first.token.newest.expires_at == clock.at + HOUR
    assert len(third.token.secrets) == 2
    assert first.token.newest.sha256 not in {s.sha256 for s in third.token.secrets}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "tokens.json is no file of tokens"),
        ('{"format": 2}', "format"),
        ('{"format": 1, "tokens": [{"name": "a"}]}', "tokens.0.scopes"),
        ("\udcff", "no UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(store: TokenStore, text: str, said: str) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(text.encode(errors="surrogateescape"))
    store.path.chmod(0o600)
    for use in (store.list, lambda: store.create("shop", [Scope.predict])):
        with pytest.raises(StateFileError, match=said):
            use()
    assert store.path.read_bytes() == text.encode(errors="surrogateescape")


def test_a_file_that_others_may_write_is_not_trusted(store: TokenStore) -> None:
    store.create("shop", [Scope.predict])
    store.path.chmod(0o620)
    with pytest.raises(StateFileError, match="chmod 600"):
        store.list()


def test_one_token_twice_is_refused(store: TokenStore) -> None:
    store.create("shop", [Scope.predict])
    document = json.loads(store.path.read_text())
    document["tokens"] *= 2
    store.path.write_text(json.dumps(document))
    with pytest.raises(StateFileError, match="shop twice"):
        store.list()


def test_processes_that_make_tokens_at_once_lose_none(store: TokenStore) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mlops_assets.serving.security import Scope, TokenStore\n"
        "store = TokenStore(Path(sys.argv[1]))\n"
        "[store.create(f'{sys.argv[2]}{n}', [Scope.predict]) for n in range(20)]\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(store.path), name]) for name in "abc"
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]

    wanted = {f"{name}{number}" for name in "abc" for number in range(20)}
    assert {token.name for token in store.list()} == wanted
    left = {path.name for path in store.path.parent.iterdir()}
    assert left == {"tokens.json", "tokens.json.lock"}
