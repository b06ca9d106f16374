"""Who answers a request, in one worker: by what is deployed, declared and switched.

A canary's share is of entities, not of requests: an entity always gets its answers from the same
model, decided by a hash of its key. Another challenger or another seed chooses other entities;
a greater share keeps those that were chosen before.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from mlops_assets.serving.routing.contest import Contest
from mlops_assets.serving.routing.counts import Arm, ArmCounter
from mlops_assets.serving.routing.traffic import (
    FILE,
    Experiment,
    Plan,
    TrafficFile,
    plan,
    read_traffic,
)
from mlops_assets.serving.security.state_file import Report, WatchedFile
from mlops_assets.training.family_serving import ServingDeclaration

FOLDER = "canary"
"""Below the server's folder: the counts, by family and experiment."""

_ALL = 2**64


class _Declared(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def serving(self) -> ServingDeclaration: ...


class _Deployed(Protocol):
    @property
    def version(self) -> int: ...


class _Lane(Protocol):
    @property
    def deployed(self) -> _Deployed: ...


class ServedFamily(Protocol):
    """What the router must know of a family that is served; a change makes another object."""

    @property
    def declaration(self) -> _Declared:
        """As it is declared."""

    @property
    def champion(self) -> _Lane:
        """Who answers."""

    @property
    def challenger(self) -> _Lane | None:
        """Who may answer a share."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What holds for one family, ready to be used."""

    family: ServedFamily
    traffic: TrafficFile
    plan: Plan
    counter: ArmCounter | None
    salt: bytes
    below: int  # a hash below this is the canary's
    most_seconds: float


class Router:
    """Says which arm answers each request, and counts how it went.

    Parameters
    ----------
    folder
        The server's; holds the switches, which are watched, and takes the counts.
    seed
        Of the deployment.
    report
        Is told when the switches cannot be read, and when a canary cannot be counted.
    clock
        Seconds that only rise.

    Raises
    ------
    StateFileError
        When the file of switches is wrong from the start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._seed = seed
        self._report = report
        self._traffic = WatchedFile(
            folder / FILE, read_traffic, report, what="traffic", clock=clock
        )
        self._routes: dict[str, _Route] = {}

    def arm(self, family: ServedFamily, entity: str | None, request_id: str) -> str:
        """Return who answers a request: `champion` or `canary`.

        Parameters
        ----------
        family
            Whom it asks.
        entity
            Key of what it asks about; without one the request itself is drawn.
        request_id
            Its number.
        """
        route = self._route(family)
        if route.counter is None:
            return Arm.champion
        key = (request_id if entity is None else entity).encode(errors="surrogatepass")
        drawn = blake2b(key, digest_size=8, key=route.salt).digest()
        return Arm.canary if int.from_bytes(drawn, "big") < route.below else Arm.champion

    def outcome(self, family: ServedFamily, arm: str, *, failed: bool, seconds: float) -> None:
        """Take note of how an arm answered a request.

        Parameters
        ----------
        family
            As it was given to `arm`: a request that was under way when the versions changed is
            not counted for the new ones.
        arm
            As `arm` returned it.
        failed
            Whether the model failed; a request that was wrong itself is no failure.
        seconds
            How long it took; more than declared is a failure too.
        """
        route = self._routes.get(family.declaration.name)
        if route is None or route.counter is None or route.family is not family:
            return
        route.counter.request(Arm(arm), failed=failed or seconds > route.most_seconds)

    def mirrors(self, family: ServedFamily) -> bool:
        """Return whether the challenger is asked what the champion is asked."""
        return self._route(family).plan.shadow

    def close(self) -> None:
        """Let go of the files of counts."""
        for route in self._routes.values():
            if route.counter is not None:
                route.counter.close()
        self._routes.clear()

    def _route(self, family: ServedFamily) -> _Route:
        traffic = self._traffic.current()
        before = self._routes.get(family.declaration.name)
        if before is not None and before.family is family and before.traffic is traffic:
            return before
        route = self._new_route(family, traffic, before)
        self._routes[family.declaration.name] = route
        return route

    def _new_route(
        self, family: ServedFamily, traffic: TrafficFile, before: _Route | None
    ) -> _Route:
        contest = Contest(
            family.declaration.name,
            family.champion.deployed.version,
            family.challenger.deployed.version if family.challenger else None,
            family.declaration.serving,
        )
        planned = plan(contest, traffic.of(contest.family))
        experiment = planned.canary
        if before is not None and before.plan.canary == experiment:
            counter = before.counter
        else:
            if before is not None and before.counter is not None:
                before.counter.close()
            counter = None if experiment is None else self._counter(experiment)
        salt = blake2b(
            f"{self._seed}/{contest.family}/{contest.challenger}".encode(), digest_size=16
        ).digest()
        limit = None if experiment is None else experiment.rules.max_latency_ms
        return _Route(
            family=family,
            traffic=traffic,
            plan=planned,
            counter=counter,
            salt=salt,
            below=0 if experiment is None else int(experiment.rules.share * _ALL),
            most_seconds=float("inf") if limit is None else limit / 1000,
        )

    def _counter(self, experiment: Experiment) -> ArmCounter | None:
        """Begin to count; without counts nothing could stop a canary, so it does not run then."""
        folder = counts_folder(self._folder, experiment)
        try:
            return ArmCounter(folder)
        except OSError as error:
            self._report(
                "canary_not_counted",
                f"{experiment.family}/{experiment.challenger} answers nothing: its failures cannot "
                f"be counted in {folder} ({error.strerror}); make room there",
                {"family": experiment.family, "version": experiment.challenger},
            )
            return None


def counts_folder(folder: Path, experiment: Experiment) -> Path:
    """Return where the counts of an experiment are, below the server's folder."""
    return folder / FOLDER / experiment.family / experiment.name
