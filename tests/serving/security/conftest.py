"""A store of tokens, and a clock that a test turns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_assets.serving.security import Authenticator, TokenStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    """Time that passes when a test says so."""

    at: datetime = NOON

    def now(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()

    def forward(self, by: timedelta) -> None:
        self.at += by


@dataclass
class Events:
    """What was reported."""

    kinds: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def __call__(self, kind: str, message: str, _more: Mapping[str, object]) -> None:
        self.kinds.append(kind)
        self.messages.append(message)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> TokenStore:
    return TokenStore(tmp_path / "serving" / "tokens.json", now=clock.now)


@pytest.fixture
def authenticator(store: TokenStore, clock: Clock, events: Events) -> Authenticator:
    """Of a server on loopback; made when a test asks for it, with the tokens there are then."""
    return authenticator_of(store, clock, events)


def authenticator_of(
    store: TokenStore, clock: Clock, events: Events, host: str = "127.0.0.1"
) -> Authenticator:
    return Authenticator(
        store.path, host=host, report=events, now=clock.seconds, clock=clock.seconds
    )


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()
