"""Tokens: who may call the server, for what, until when.

A token is named after who uses it. Its secret is 256 random bits, shown once when it is made; the
file keeps its SHA-256 alone, which needs no salt and no slow hash because such a secret cannot be
guessed. While a token is being rotated it has two secrets, the old one until the overlap ends.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from mlops_assets.declaration import Declared, did_you_mean
from mlops_assets.serving.security.errors import TokenError
from mlops_assets.serving.security.state_file import (
    StateFileError,
    read_text,
    replace_text,
    sole_writer,
)

PREFIX = "mlops_"
"""What every secret begins with, so that scanners of code and logs can find one."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_RESERVED = {"anonymous"}


class Scope(StrEnum):
    """What a token is for. None includes another."""

    predict = "predict"
    explain = "explain"
    admin = "admin"


class TokenSecret(Declared):
    """One secret of a token.

    Attributes
    ----------
    sha256
        Of the secret, in hexadecimal.
    last_four
        Its last characters, by which a person recognises it.
    created_at, expires_at
        From when, and until when, it is valid; an empty end is never.
    """

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    last_four: Annotated[str, StringConstraints(min_length=4, max_length=4)]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None

    def expired(self, at: datetime) -> bool:
        """Whether it is no longer valid at a moment."""
        return self.expires_at is not None and at >= self.expires_at


class Token(Declared):
    """Who may call the server for what; the newest of its secrets comes last.

    Attributes
    ----------
    name
        Of whoever uses it; predictions are logged under it.
    scopes
        What it is for.
    secrets
        One, or two while it is being rotated.
    """

    name: Annotated[str, StringConstraints(pattern=f"^{_NAME.pattern}$")]
    scopes: tuple[Scope, ...] = Field(min_length=1)
    secrets: tuple[TokenSecret, ...] = Field(min_length=1)

    @property
    def newest(self) -> TokenSecret:
        """The secret that was made last."""
        return self.secrets[-1]


class TokenFile(Declared):
    """What the file of tokens holds."""

    format: Literal[1] = 1
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class IssuedToken:
    """A token with its new secret, which exists nowhere else.

    Attributes
    ----------
    token
        What the file keeps.
    secret
        What the caller sends: ``Authorization: Bearer SECRET``. Not in the object's repr.
    """

    token: Token
    secret: str = field(repr=False)


def read_tokens(path: Path) -> TokenFile | None:
    """Read the file of tokens.

    Returns
    -------
    TokenFile or None
        None where there is no such file.

    Raises
    ------
    StateFileError
        When it cannot be read or trusted, or is no file of tokens.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        found = TokenFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise StateFileError(
            f"{path} is no file of tokens: {place}: {first['msg']}. Restore it from a backup, or "
            "remove it and make new tokens with `mlops tokens create`"
        ) from error
    names = [token.name for token in found.tokens]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StateFileError(f"{path} names {', '.join(twice)} twice; remove one of each")
    return found


class TokenStore:
    """The file of tokens, changed by one process at a time.

    Parameters
    ----------
    path
        The file; made, readable by this user alone, with the first token.
    now
        The present moment, with a time zone.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self.path = path
        self._now = now

    def list(self) -> tuple[Token, ...]:
        """Return the tokens by name; none where there is no file.

        Raises
        ------
        StateFileError
            When the file cannot be read or trusted.
        """
        found = read_tokens(self.path)
        return found.tokens if found else ()

    def create(
        self, name: str, scopes: Iterable[Scope], expires: timedelta | None = None
    ) -> IssuedToken:
        """Make a token.

        Parameters
        ----------
        name
            Who will use it: letters, digits, ``.``, ``_`` and ``-``, at most 63.
        scopes
            What it is for.
        expires
            How long it is valid; None is for ever.

        Raises
        ------
        TokenError
            When the name is none or taken, no scope is given, or the time is not positive.
        StateFileError
            When the file cannot be changed.
        """
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise TokenError(
                f"{name!r} cannot name a token; write letters, digits, '.', '_' and '-', at most "
                f"63, not {' or '.join(_RESERVED)}"
            )
        wanted = tuple(sorted(set(scopes)))
        if not wanted:
            raise TokenError(f"token {name!r} is for nothing; give it a scope: {', '.join(Scope)}")
        with sole_writer(self.path):
            tokens = self.list()
            if any(token.name == name for token in tokens):
                raise TokenError(
                    f"there is a token {name!r} already; `mlops tokens rotate {name}` gives it a "
                    "new secret"
                )
            secret, kept = self._new_secret(_positive(expires, "a token's lifetime"))
            token = Token(name=name, scopes=wanted, secrets=(kept,))
            self._write((*tokens, token))
        return IssuedToken(token, secret)

    def rotate(
        self, name: str, *, overlap: timedelta = timedelta(0), expires: timedelta | None = None
    ) -> IssuedToken:
        """Give a token a new secret.

        Parameters
        ----------
        name
            Which token.
        overlap
            How long the present secret stays valid, unless it expires before; none at all by
            default.
        expires
            How long the new one is valid. Default: as long as the present one was from its start.

        Raises
        ------
        TokenError
            When there is no such token, or a time is negative.
        StateFileError
            When the file cannot be changed.
        """
        if overlap < timedelta(0):
            raise TokenError(f"an overlap of {overlap} is negative; give zero or more")
        with sole_writer(self.path):
            tokens = self.list()
            token = self._named(name, tokens)
            present, now = token.newest, self._now()
            if expires is None and present.expires_at is not None:
                expires = present.expires_at - present.created_at
            secret, kept = self._new_secret(_positive(expires, "a token's lifetime"))
            ends = now + overlap
            if present.expires_at is not None:
                ends = min(ends, present.expires_at)
            # Only two at a time: a secret that was on its way out already has had its overlap.
            replaced = present.model_copy(update={"expires_at": ends})
            rotated = token.model_copy(update={"secrets": (replaced, kept)})
            self._write(rotated if t is token else t for t in tokens)
        return IssuedToken(rotated, secret)

    def revoke(self, name: str) -> Token:
        """Make a token invalid at once, whatever its secrets' ends.

        Revoking the last one opens nothing: as long as the file exists, every call needs a token.

        Raises
        ------
        TokenError
            When there is no such token.
        StateFileError
            When the file cannot be changed.
        """
        with sole_writer(self.path):
            tokens = self.list()
            token = self._named(name, tokens)
            self._write(t for t in tokens if t is not token)
        return token

    def _new_secret(self, expires: timedelta | None) -> tuple[str, TokenSecret]:
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._now()
        return secret, TokenSecret(
            sha256=hashlib.sha256(secret.encode()).hexdigest(),
            last_four=secret[-4:],
            created_at=now,
            expires_at=None if expires is None else now + expires,
        )

    def _named(self, name: str, tokens: tuple[Token, ...]) -> Token:
        for token in tokens:
            if token.name == name:
                return token
        names = [token.name for token in tokens]
        hint = did_you_mean(name, names) or f"; there are {', '.join(names) or 'none'}"
        raise TokenError(f"there is no token {name!r} in {self.path}{hint}")

    def _write(self, tokens: Iterable[Token]) -> None:
        replace_text(
            self.path, TokenFile(tokens=tuple(tokens)).model_dump_json(indent=2) + os.linesep
        )


def _positive(duration: timedelta | None, what: str) -> timedelta | None:
    if duration is not None and duration <= timedelta(0):
        raise TokenError(f"{what} of {duration} is over before it begins; give a positive one")
    return duration
