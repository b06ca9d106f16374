"""Who a header stands for, and how soon a change of the tokens is noticed."""

import os
from datetime import timedelta

import pytest

from mlops_assets.serving.security import (
    ANONYMOUS,
    ForbiddenError,
    Scope,
    StateFileError,
    TokenStore,
    UnauthenticatedError,
)
from mlops_assets.serving.security.problems import RequestError
from tests.serving.security.conftest import Clock, Events, authenticator_of, bearer

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def challenge(error: RequestError) -> str:
    return dict(error.headers)[b"www-authenticate"].decode()


def test_a_token_stands_for_its_name_and_scopes(
    store: TokenStore, clock: Clock, events: Events
) -> None:
    shop = store.create("shop", [Scope.predict]).secret
    found = authenticator_of(store, clock, events)

    for header in (bearer(shop), b"bearer " + shop.encode(), b"BEARER  " + shop.encode()):
        caller = found.check(header, Scope.predict)
        assert (caller.name, caller.scopes) == ("shop", {Scope.predict})
    with pytest.raises(ForbiddenError, match="'shop' is for predict, and this needs admin") as no:
        found.check(bearer(shop), Scope.admin)
    assert no.value.status == 403
    assert 'error="insufficient_scope", scope="admin"' in challenge(no.value)


def test_without_a_token_the_challenge_names_no_error(
    store: TokenStore, clock: Clock, events: Events
) -> None:
    store.create("shop", [Scope.predict])
    with pytest.raises(UnauthenticatedError) as no:
        authenticator_of(store, clock, events).identify(None)
    assert no.value.status == 401
    assert challenge(no.value) == 'Bearer realm="mlops"'


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic c2hvcDpzaG9w",
        b"Bearer mlops_" + b"A" * 43,
        b"Bearer \xff\x00",
        b"Bearer " + b"A" * 100_000,
    ],
)
def test_a_header_that_names_no_token_is_refused_without_being_quoted(
    store: TokenStore, clock: Clock, events: Events, header: bytes
) -> None:
    store.create("shop", [Scope.predict])
    with pytest.raises(UnauthenticatedError) as no:
        authenticator_of(store, clock, events).identify(header)
    assert b"AAAA" not in no.value.body() + repr(no.value.headers).encode()
    assert 'error="invalid_token"' in challenge(no.value)


def test_an_expired_token_says_so(store: TokenStore, clock: Clock, events: Events) -> None:
    secret = store.create("shop", [Scope.predict], HOUR).secret
    found = authenticator_of(store, clock, events)
    clock.forward(HOUR - SECOND)
    assert found.identify(bearer(secret)).name == "shop"
    clock.forward(SECOND)
    with pytest.raises(UnauthenticatedError, match="'shop' has expired") as no:
        found.identify(bearer(secret))
    assert "expired" in challenge(no.value)


def test_tokens_made_rotated_and_revoked_are_noticed_within_a_second(
    store: TokenStore, clock: Clock, events: Events
) -> None:
    store.create("admin", [Scope.admin])
    found = authenticator_of(store, clock, events)

    first = store.create("shop", [Scope.predict]).secret
    clock.forward(SECOND)
    assert found.identify(bearer(first)).name == "shop"

    second = store.rotate("shop", overlap=HOUR).secret
    clock.forward(SECOND)
    assert {found.identify(bearer(secret)).name for secret in (first, second)} == {"shop"}
    clock.forward(HOUR)
    assert found.identify(bearer(second)).name == "shop"
    with pytest.raises(UnauthenticatedError, match="expired"):
        found.identify(bearer(first))

    store.revoke("shop")
    clock.forward(SECOND)
    with pytest.raises(UnauthenticatedError, match="not known"):
        found.identify(bearer(second))
    assert events.kinds == []


def test_changes_in_one_instant_of_the_file_system_are_noticed(
    store: TokenStore, clock: Clock, events: Events
) -> None:
    """Two states of a file can share their size, and their time where that is coarse."""
    found_with = store.create("shop", [Scope.predict])
    found = authenticator_of(store, clock, events)
    state = store.path.stat()
    rotated = store.rotate("shop")
    text = store.path.read_text().replace(found_with.token.newest.sha256, "0" * 64)
    store.path.write_text(text)
    os.utime(store.path, ns=(state.st_atime_ns, state.st_mtime_ns))

    clock.forward(SECOND)
    assert found.identify(bearer(rotated.secret)).name == "shop"


@pytest.mark.parametrize("fault", ["malformed", "gone", "writable by others", "a folder"])
def test_a_file_that_became_wrong_changes_nothing_and_is_reported_once(
    store: TokenStore, clock: Clock, events: Events, fault: str
) -> None:
    secret = store.create("shop", [Scope.predict]).secret
    found = authenticator_of(store, clock, events)
    good = store.path.read_text()
    match fault:
        case "malformed":
            store.path.write_text(good[:-20])
        case "gone":
            store.path.unlink()
        case "writable by others":
            store.path.chmod(0o666)
        case "a folder":
            store.path.unlink()
            store.path.mkdir()
    for _ in range(3):
        clock.forward(SECOND)
        assert found.identify(bearer(secret)).name == "shop"
        with pytest.raises(UnauthenticatedError):
            found.identify(None)
    assert events.kinds == ["tokens_unreadable"]
    assert str(store.path) in events.messages[0]
    assert secret not in events.messages[0]

    if fault == "a folder":
        store.path.rmdir()
    store.path.write_text(good)
    store.path.chmod(0o600)
    clock.forward(SECOND)
    assert found.identify(bearer(secret)).name == "shop"
    assert events.kinds == ["tokens_unreadable", "tokens_readable"]


def test_a_server_does_not_start_on_a_wrong_file(
    store: TokenStore, clock: Clock, events: Events
) -> None:
    store.path.parent.mkdir()
    store.path.write_text("{}}")
    with pytest.raises(StateFileError, match="no file of tokens"):
        authenticator_of(store, clock, events)


def test_without_a_file_everybody_on_loopback_may_do_everything(
    store: TokenStore, clock: Clock, events: Events
) -> None:
    found = authenticator_of(store, clock, events)
    assert found.anonymous
    for scope in Scope:
        assert found.check(None, scope) is ANONYMOUS
    assert found.check(b"Bearer whatever", Scope.admin) is ANONYMOUS


def test_with_the_first_token_anonymity_ends_and_never_comes_back(
    store: TokenStore, clock: Clock, events: Events
) -> None:
    found = authenticator_of(store, clock, events)
    store.create("shop", [Scope.predict])
    clock.forward(SECOND)
    assert not found.anonymous
    store.revoke("shop")
    clock.forward(SECOND)
    for at in (found, authenticator_of(store, clock, events)):
        with pytest.raises(UnauthenticatedError):
            at.identify(None)


def test_elsewhere_nobody_is_anonymous(store: TokenStore, clock: Clock, events: Events) -> None:
    found = authenticator_of(store, clock, events, host="0.0.0.0")  # noqa: S104 - what is tested
    assert not found.anonymous
    with pytest.raises(UnauthenticatedError):
        found.identify(None)
