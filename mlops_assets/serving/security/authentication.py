"""Who is calling: from an ``Authorization`` header to a caller and what it may do."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops_assets.serving.security.binding import is_loopback
from mlops_assets.serving.security.problems import ForbiddenError, UnauthenticatedError
from mlops_assets.serving.security.state_file import Report, WatchedFile
from mlops_assets.serving.security.tokens import Scope, read_tokens

_LONGEST_HEADER = 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request.

    Attributes
    ----------
    name
        Of its token; ``anonymous`` where none is needed.
    scopes
        What it may do.
    """

    name: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Refuse what this caller may not do.

        Raises
        ------
        ForbiddenError
            When its token is not for that.
        """
        if scope not in self.scopes:
            raise ForbiddenError(
                f"Token {self.name!r} is for {', '.join(sorted(self.scopes))}, and this needs "
                f"{scope}; ask for a token with that scope",
                scope=scope,
            )


ANONYMOUS = Caller("anonymous", frozenset(Scope))
"""Whoever calls a server on loopback for which no token was ever made."""


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    expires_at: float | None  # seconds since the epoch


class Authenticator:
    """Tells callers by the file of tokens, and notices within a second that it changed.

    Where there is no such file, everybody on loopback may do everything. A file that is there,
    even without a token in it, means that every call needs one.

    Parameters
    ----------
    path
        The file of tokens.
    host
        What the server listens on: on anything but loopback no call passes without a token.
    report
        Is told when the file became wrong or went away. The last good tokens stay valid then.
    now
        Seconds since the epoch.
    clock
        Seconds that only rise.

    Raises
    ------
    StateFileError
        When the file is wrong from the start.
    """

    def __init__(
        self,
        path: Path,
        *,
        host: str,
        report: Report,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._open = is_loopback(host)
        self._known = WatchedFile(path, _known_secrets, report, what="tokens", clock=clock)

    @property
    def anonymous(self) -> bool:
        """Whether calls pass without a token."""
        return self._open and self._known.current() is None

    def identify(self, header: bytes | None) -> Caller:
        """Tell who is calling.

        Parameters
        ----------
        header
            Value of ``Authorization``; None where it was not sent.

        Raises
        ------
        UnauthenticatedError
            When it names no valid token.
        """
        known = self._known.current()
        if known is None and self._open:
            return ANONYMOUS
        if header is None:
            raise UnauthenticatedError("Send a token: 'Authorization: Bearer TOKEN'")
        if len(header) > _LONGEST_HEADER or header[:7].lower() != b"bearer ":
            raise UnauthenticatedError(
                "The Authorization header is not 'Bearer TOKEN'", reason="The token is malformed"
            )
        # Looking a hash up takes no longer the more of a guessed secret is right.
        found = (known or {}).get(hashlib.sha256(header[7:].strip()).digest())
        if found is None:
            raise UnauthenticatedError(
                "This token is not known here; it may have been revoked or rotated",
                reason="The token is not known",
            )
        if found.expires_at is not None and self._now() >= found.expires_at:
            raise UnauthenticatedError(
                f"Token {found.caller.name!r} has expired; `mlops tokens rotate "
                f"{found.caller.name}` makes it a new secret",
                reason="The token has expired",
            )
        return found.caller

    def check(self, header: bytes | None, scope: Scope) -> Caller:
        """Tell who is calling, and whether they may do what they ask for.

        Raises
        ------
        UnauthenticatedError
            When the header names no valid token.
        ForbiddenError
            When its token is not for that.
        """
        caller = self.identify(header)
        caller.require(scope)
        return caller


def _known_secrets(path: Path) -> dict[bytes, _Known] | None:
    """Return who has which secret, by its hash; None where there is no file."""
    found = read_tokens(path)
    if found is None:
        return None
    return {
        bytes.fromhex(secret.sha256): _Known(
            Caller(token.name, frozenset(token.scopes)),
            secret.expires_at.timestamp() if secret.expires_at else None,
        )
        for token in found.tokens
        for secret in token.secrets
    }
