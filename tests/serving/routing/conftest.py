"""A family with a champion and a challenger, as the server has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.serving.deployment import (
    DeployedFamily,
    DeployedVersion,
    Deployment,
    write_deployment,
)
from mlops_assets.serving.routing import Contest, Router, TrafficStore
from mlops_assets.serving.routing.traffic import FILE
from mlops_assets.training.family_serving import CanaryDeclaration, ServingDeclaration


@dataclass(frozen=True)
class Version:
    version: int


@dataclass(frozen=True)
class Lane:
    deployed: Version


@dataclass(frozen=True)
class Declaration:
    name: str
    serving: ServingDeclaration


@dataclass(frozen=True)
class Family:
    """What the router knows of a family that is served."""

    declaration: Declaration
    champion: Lane
    challenger: Lane | None

    @property
    def contest(self) -> Contest:
        waiting = self.challenger.deployed.version if self.challenger else None
        declared = self.declaration
        return Contest(declared.name, self.champion.deployed.version, waiting, declared.serving)


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


@dataclass
class Events:
    """What was reported."""

    kinds: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    about: list[dict[str, object]] = field(default_factory=list)

    def __call__(self, kind: str, message: str, about: Mapping[str, object]) -> None:
        self.kinds.append(kind)
        self.messages.append(message)
        self.about.append(dict(about))


def make_family(
    canary: Mapping[str, Any] | None = None,
    *,
    shadow: bool = False,
    champion: int = 6,
    challenger: int | None = 7,
    name: str = "delay",
) -> Family:
    rules = None if canary is None else CanaryDeclaration(**canary)
    return Family(
        Declaration(name, ServingDeclaration(shadow=shadow, canary=rules)),
        Lane(Version(champion)),
        None if challenger is None else Lane(Version(challenger)),
    )


def deploy(folder: Path, **families: Mapping[str, Any]) -> None:
    """Write what the follower writes: champion 6, challenger 7 unless said otherwise."""
    deployed = {}
    for name, serving in families.items():
        waiting = serving.get("challenger", 7)
        deployed[name] = DeployedFamily(
            declaration={"serving": {k: v for k, v in serving.items() if k != "challenger"}},
            spine=b"",
            champion=_version(6),
            challenger=None if waiting is None else _version(waiting),
        )
    write_deployment(folder, Deployment(deployed))


def _version(number: int) -> DeployedVersion:
    return DeployedVersion(
        version=number,
        folder=f"models/x/{number}",
        threshold=0.5,
        candidate="linear",
        algorithm="linear",
        registered_at="2026-03-01T12:00:00+00:00",
        learnt_until="2026-02-01",
        training_set="training/x@1",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "serving"


@pytest.fixture
def store(folder: Path) -> TrafficStore:
    return TrafficStore(folder / FILE)


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def router(folder: Path, events: Events, clock: Clock) -> Router:
    return Router(folder, seed=1, report=events, clock=clock)
