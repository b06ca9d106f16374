"""Where the server listens: to this machine alone, unless every call needs a token."""

import ipaddress
import socket
from pathlib import Path

from mlops_assets.serving.security.errors import UnsafeBindingError
from mlops_assets.serving.security.tokens import TokenStore


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host name or address.

    A name counts as loopback only if every address it stands for is one.
    """
    if is_loopback_name(host):
        return True
    if not host:  # which sockets take for every address
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[0])).is_loopback for *_, address in found)


def is_loopback_name(name: str) -> bool:
    """Whether a name can stand for nothing but this machine, whatever a name server says."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def require_safe_binding(host: str, tokens: Path) -> None:
    """Refuse to listen to other machines while no token is needed.

    Parameters
    ----------
    host
        What the server is to listen on.
    tokens
        The file of tokens.

    Raises
    ------
    UnsafeBindingError
        When other machines can reach the host and there is no token.
    StateFileError
        When the file of tokens is wrong, wherever the server listens.
    """
    if not TokenStore(tokens).list() and not is_loopback(host):
        raise UnsafeBindingError(
            f"host {host!r} can be reached from other machines, and {tokens} holds no token. Make "
            "one first (`mlops tokens create NAME --scope predict`), or listen on 127.0.0.1"
        )
