"""One request from its bytes to its answer: read, check, look up, ask, log, answer."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from mlops_assets.serving.answers import Answer
from mlops_assets.serving.batching import Call
from mlops_assets.serving.decoding import Asked, Entities
from mlops_assets.serving.families import Families, Family, Lane
from mlops_assets.serving.inference_log import Kept, LogFullError
from mlops_assets.serving.inputs import Inputs
from mlops_assets.serving.security.authentication import Caller
from mlops_assets.serving.security.problems import (
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RequestError,
)
from mlops_assets.serving.security.tokens import Scope
from mlops_assets.settings import ServeLimits


@dataclass(frozen=True)
class Found:
    """Features that were looked up.

    Attributes
    ----------
    inputs
        As the model takes them.
    source
        `online` or `offline`.
    as_of
        Per row, the moment they are for, in microseconds since 1970 in UTC.
    entity
        Spine columns by name, one value a row.
    versions
        Feature view to the version of its table.
    freshness
        For each row, of each view how old its values are.
    warnings
        What is odd about them.
    """

    inputs: Inputs
    source: str
    as_of: Sequence[int]
    entity: Mapping[str, Sequence[Any]]
    versions: Mapping[str, int]
    freshness: Sequence[Mapping[str, Any]]
    warnings: Sequence[str]


class Lookup(Protocol):
    """Finds the features of entities."""

    def find(self, lane: Lane, family: Family, wanted: Entities) -> Found:
        """Find features.

        Raises
        ------
        RequestError
            When an entity is unknown, or its features are too old to answer with.
        """
        ...


class Traffic(Protocol):
    """Says who answers a request."""

    def arm(self, family: Family, entity: str | None, request_id: str) -> str:
        """Return `champion` or `canary`."""
        ...

    def outcome(self, family: Family, arm: str, *, failed: bool, seconds: float) -> None:
        """Take note of how an arm answered."""
        ...

    def mirrors(self, family: Family) -> bool:
        """Return whether the challenger is asked what the champion is asked."""
        ...


Mirror = Callable[[Family, Call], None]
"""Asks the challenger later what the champion was asked; returns at once."""


@dataclass(frozen=True)
class Request:
    """A request to predict, as the server received it.

    Attributes
    ----------
    family
        Whom it asks.
    content_type, body
        What it asks.
    explain
        Whether the features' contributions are wanted.
    request_id, caller
        Its number, and who asks.
    begun
        `time.perf_counter()` when it arrived.
    """

    family: str
    content_type: str
    body: bytes
    explain: bool
    request_id: str
    caller: Caller
    begun: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Predictor:
    """Answers requests of one worker.

    Attributes
    ----------
    families
        The models.
    limits
        Of one request.
    lookup
        Finds features by key.
    traffic
        Says which version answers.
    mirror
        Asks the challenger what the champion was asked.
    finding, explaining
        Threads that look features up, and that explain: neither waits for the other, nor for the
        models' long calls.
    predicted
        Is told of every answer: family, version, role, rows.
    """

    families: Families
    limits: ServeLimits
    lookup: Lookup
    traffic: Traffic
    mirror: Mirror
    finding: Executor
    explaining: Executor
    predicted: Callable[[str, int, str, int], None]

    async def answer(self, request: Request) -> tuple[Answer, Asked]:
        """Answer a request.

        Returns
        -------
        tuple
            The answer, and the request as it was read.

        Raises
        ------
        RequestError
            Saying what is wrong with the request, or why it cannot be answered now.
        """
        request.caller.require(Scope.predict)
        if request.explain:
            request.caller.require(Scope.explain)
        family = self._family(request.family)
        if request.explain and not family.declaration.serving.explain:
            raise InvalidRequestError(f"explanations of {request.family} are switched off")
        asked = self._decoded(request, family.champion)
        entity = _first_key(family, asked)
        role = self.traffic.arm(family, entity, request.request_id)
        lane = family.challenger if role == "canary" and family.challenger else family.champion
        failed = True
        try:
            answer = await self._asked(request, family, lane, role, asked)
            failed = False
        except RequestError as problem:
            failed = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            seconds = time.perf_counter() - request.begun
            self.traffic.outcome(family, role, failed=failed, seconds=seconds)
        return answer, asked

    async def _asked(
        self, request: Request, family: Family, lane: Lane, role: str, asked: Asked
    ) -> Answer:
        call, freshness = await self._call(request, family, lane, role, asked)
        try:
            reply = await lane.batcher.answer(call)
        except LogFullError as error:
            raise OverloadedError(
                "Nothing is answered that cannot be logged, and the log cannot be written now",
                after=error.retry_after,
            ) from error
        self.predicted(request.family, lane.model.version, role, len(call.inputs))
        if role == "champion" and family.challenger and self.traffic.mirrors(family):
            self.mirror(family, call)
        explanation = None
        if request.explain:
            loop = asyncio.get_running_loop()
            explanation = await loop.run_in_executor(
                self.explaining, lane.model.scorer.explanation, call.inputs
            )
        return Answer(
            model=lane.model,
            role=role,
            request_id=request.request_id,
            answers=reply.answers,
            warnings=call.warnings,
            logged=reply.kept is Kept.logged,
            explanation=explanation,
            inputs=call.inputs,
            features=freshness,
        )

    async def _call(
        self, request: Request, family: Family, lane: Lane, role: str, asked: Asked
    ) -> tuple[Call, Sequence[Mapping[str, Any]]]:
        """Turn what was asked into what the model is asked."""
        if isinstance(asked.what, Inputs):
            inputs = asked.what
            if lane is not family.champion:
                # Read by the champion's features; the challenger may take others.
                inputs = self._decoded(request, lane).what  # type: ignore[assignment] # same form
            return Call(
                inputs=inputs,
                role=role,
                request_id=request.request_id,
                caller=request.caller.name,
                source="request",
                begun=request.begun,
                warnings=lane.model.check.warnings(inputs, asked.form),
            ), ()
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self.finding, self.lookup.find, lane, family, asked.what)
        warnings = (*found.warnings, *lane.model.check.warnings(found.inputs, asked.form))
        return Call(
            inputs=found.inputs,
            role=role,
            request_id=request.request_id,
            caller=request.caller.name,
            source=found.source,
            begun=request.begun,
            as_of=found.as_of,
            entity=found.entity,
            feature_versions=found.versions,
            warnings=warnings,
        ), found.freshness

    def _decoded(self, request: Request, lane: Lane) -> Asked:
        decoder = lane.model.decoder
        return decoder.decode(request.content_type, request.body, self.limits.batch_rows)

    def _family(self, name: str) -> Family:
        found = self.families.served.get(name)
        if found is None:
            served = ", ".join(sorted(self.families.served)) or "none yet"
            raise NotFoundError(f"no model of this name is served; there are: {served}")
        return found


def _first_key(family: Family, asked: Asked) -> str | None:
    """Return what a sticky share is decided by: the first entity's key, where one was given."""
    if isinstance(asked.what, Inputs):
        return None
    first = asked.what.keys[0]
    return "/".join(str(first.get(name)) for name in family.declaration.spine.entity)
