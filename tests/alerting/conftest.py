"""A book of alerts in a lake of its own, with a clock that the test moves."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.alerting import AlertBook, AlertKind, AlertsDeclaration, Occurrence
from mlops_assets.lake import Lake
from mlops_assets.settings import load_settings


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = datetime(2013, 5, 3, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


def declaration(*, sinks: tuple[str, ...] = ("hook",), **rule: Any) -> AlertsDeclaration:
    """One rule for everything, with a cooldown of an hour, to sinks named by their variables."""
    return AlertsDeclaration.model_validate(
        {
            "sinks": [
                {"name": name, "url": f"${{{name.upper()}_URL}}", "timeout": "PT5S"}
                for name in sinks
            ],
            "alerts": [
                {"name": "everything", "kinds": list(AlertKind), "cooldown": "PT1H", **rule}
            ],
        }
    )


def stale(key: str = "1", **more: Any) -> Occurrence:
    facts = {"asset": "raw/flights", "what": "raw/flights is stale", **more}
    return Occurrence(AlertKind.stale_asset, facts.pop("subject", "raw/flights"), key, **facts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.from_settings(load_settings(home=tmp_path))


NewBook = Callable[..., AlertBook]


@pytest.fixture
def new_book(lake: Lake, clock: Clock) -> NewBook:
    """Open the same book again, as another process does."""
    return lambda **declared: AlertBook(lake, declaration(**declared), clock)


@pytest.fixture
def book(new_book: NewBook) -> AlertBook:
    return new_book()
