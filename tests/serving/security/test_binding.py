"""The server listens to other machines only if every call needs a token."""

import pytest

from mlops_assets.serving.security import (
    Scope,
    StateFileError,
    TokenStore,
    UnsafeBindingError,
    is_loopback,
    require_safe_binding,
)

EVERYWHERE = ["0.0.0.0", "::", "", "192.168.0.7", "no-such-host.invalid"]  # noqa: S104 - refused


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_token(store: TokenStore, host: str) -> None:
    assert is_loopback(host)
    require_safe_binding(host, store.path)


@pytest.mark.parametrize("host", EVERYWHERE)
def test_elsewhere_needs_one(store: TokenStore, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UnsafeBindingError, match="mlops tokens create") as refused:
        require_safe_binding(host, store.path)
    assert repr(host) in str(refused.value)
    store.create("shop", [Scope.predict])
    require_safe_binding(host, store.path)
    store.revoke("shop")
    with pytest.raises(UnsafeBindingError):
        require_safe_binding(host, store.path)


def test_a_wrong_file_is_refused_wherever_the_server_listens(store: TokenStore) -> None:
    store.path.parent.mkdir()
    store.path.write_text("[]")
    with pytest.raises(StateFileError):
        require_safe_binding("127.0.0.1", store.path)
