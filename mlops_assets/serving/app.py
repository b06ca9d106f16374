"""The ASGI app of one worker: its routes, and what lives as long as it does."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response
from starlette.routing import Route, Router

from mlops_assets.serving.decoding import ARROW, JSON
from mlops_assets.serving.describing import described_families, described_family
from mlops_assets.serving.families import Families
from mlops_assets.serving.inference_log import InferenceLog
from mlops_assets.serving.metrics import ServerMetrics
from mlops_assets.serving.openapi import openapi_document
from mlops_assets.serving.predicting import Predictor, Request
from mlops_assets.serving.security.guard import (
    App,
    Connection,
    Guard,
    Message,
    Receive,
    Send,
)
from mlops_assets.serving.security.problems import (
    FieldProblem,
    InvalidRequestError,
    NotFoundError,
    problem_of_status,
)
from mlops_assets.serving.security.tokens import Scope

PAGE = Path(__file__).with_name("page")
FOLLOW_SECONDS = 0.25
"""How often a worker looks whether something else is deployed."""

_LOG = logging.getLogger(__name__)
_ENCODER = msgspec.json.Encoder()
_PAGE_FILES = {
    "/": "index.html",
    "/static/page.js": "page.js",
    "/static/page.css": "page.css",
}
PUBLIC = ("/health", "/ready", *_PAGE_FILES)
"""What needs no token: it tells nothing but that the server is there."""

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class ModelServer:
    """What a worker's routes work with.

    Parameters
    ----------
    predictor
        Answers.
    metrics
        Counts.
    log
        Holds the answers.
    shadow_waiting
        Returns how many rows wait for a challenger.
    """

    def __init__(
        self,
        predictor: Predictor,
        metrics: ServerMetrics,
        log: InferenceLog,
        shadow_waiting: Callable[[], int],
    ) -> None:
        self.predictor = predictor
        self.families: Families = predictor.families
        self.metrics = metrics
        self.log = log
        self._shadow_waiting = shadow_waiting
        self.guard: Guard | None = None

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/models/{family}/predict", _Plain(self.predict), methods=["POST"]),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.prometheus),
            Route("/openapi.json", self.openapi),
            Route("/models", self.models),
            Route("/models/{family}", self.model),
            Route("/models/{family}/card", self.card),
            *(Route(path, self.page) for path in _PAGE_FILES),
        ]

    async def health(self, _: HttpRequest) -> Response:
        """Say that this process answers."""
        return _json({"status": "ok"})

    async def ready(self, _: HttpRequest) -> Response:
        """Say whether predictions can be answered, and by which models."""
        served = {name: str(family.champion.model) for name, family in self.families.served.items()}
        status = self.log.status()
        ready = bool(served)
        body = {
            "status": "ready" if ready else "no model is deployed yet",
            "models": served,
            "inference_log": "full" if status.full else "ok",
        }
        return _json(body, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def prometheus(self, _: HttpRequest) -> Response:
        """Give the numbers of all workers."""
        self.measure()
        body, kind = await asyncio.to_thread(self.metrics.exposition)
        return Response(body, media_type=kind)

    async def openapi(self, _: HttpRequest) -> Response:
        """Describe this interface, with the features of every model that is served."""
        return _json(openapi_document(self.families.served, self.predictor.limits))

    async def models(self, _: HttpRequest) -> Response:
        """List the families."""
        return _json(described_families(self.families.served))

    async def model(self, http: HttpRequest) -> Response:
        """Describe one family: its versions, its features, what it answers."""
        return _json(described_family(self._family(http)))

    async def card(self, http: HttpRequest) -> Response:
        """Give the model card of the champion."""
        family = self._family(http)
        path = self.families.folder / family.champion.deployed.folder / "model_card.html"
        if not path.is_file():
            raise NotFoundError(f"{family.champion.model} has no model card")
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
        return FileResponse(
            path, media_type="text/html", headers={"content-security-policy": policy}
        )

    async def page(self, http: HttpRequest) -> Response:
        """Give the page on which a person asks a model."""
        name = _PAGE_FILES[http.url.path]
        return FileResponse(PAGE / name, headers={"content-security-policy": _PAGE_POLICY})

    async def predict(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer rows, columns, an Arrow stream or entities.

        Plain ASGI: the framework's request and response objects cost half of what a row does.
        """
        content_type = next((v for name, v in scope["headers"] if name == b"content-type"), b"")
        request = Request(
            family=scope["path_params"]["family"],
            content_type=content_type.decode("latin-1"),
            body=(await receive())["body"],  # the guard gives all of it at once
            explain=bool(scope["query_string"]) and _wants_explanation(scope["query_string"]),
            request_id=scope["state"]["request_id"],
            caller=scope["state"]["caller"],
        )
        answer, asked = await self.predictor.answer(request)
        if asked.form == "arrow":
            kind, body = ARROW, _stream(answer.as_arrow())
        else:
            value = answer.as_columns() if asked.form == "columns" else answer.as_rows()
            kind, body = JSON, _ENCODER.encode(value)
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @property
    def busy(self) -> bool:
        """Whether requests are being answered now."""
        return self.guard is not None and self.guard.in_flight > 0

    def measure(self) -> None:
        """Bring the gauges up to date."""
        status = self.log.status()
        self.metrics.missed(status.missed)
        self.metrics.now(
            requests_in_flight=self.guard.in_flight if self.guard else 0,
            shadow_waiting_rows=self._shadow_waiting(),
            log_full=float(status.full),
            log_unsynced_seconds=status.unsynced_seconds,
        )
        self.metrics.serving(
            {
                (name, role): lane.model.version
                for name, family in self.families.served.items()
                for role, lane in (
                    ("champion", family.champion),
                    ("challenger", family.challenger),
                )
                if lane is not None
            }
        )

    async def keep_measuring(self, every_seconds: float = 5.0) -> None:
        """Bring the gauges up to date until cancelled, for scrapes that another worker answers."""
        while True:
            self.measure()
            await asyncio.sleep(every_seconds)

    def _family(self, http: HttpRequest) -> Any:
        http.scope["state"]["caller"].require(Scope.predict)
        return self.predictor._family(http.path_params["family"])  # noqa: SLF001 - one error for all


def make_app(
    server: ModelServer,
    guard: Callable[[App], Guard],
    executors: Sequence[Executor],
    *,
    mirror: Callable[[], Awaitable[None]],
    shut: Callable[[], None],
) -> App:
    """Put the app together.

    Parameters
    ----------
    server
        Its routes.
    guard
        Puts the guard around an app.
    executors
        Are shut down with the app.
    mirror
        Asks the challengers, until cancelled.
    shut
        Called last.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[None]:
        await asyncio.to_thread(server.families.refresh)
        tasks = [
            asyncio.create_task(server.families.follow(FOLLOW_SECONDS)),
            asyncio.create_task(server.keep_measuring()),
            asyncio.ensure_future(mirror()),
            asyncio.create_task(_end_with_the_supervisor()),
        ]
        for task in tasks:
            task.add_done_callback(_say_why_it_ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for executor in executors:
                executor.shutdown()
            shut()

    routes = server.routes()
    guarded = guard(_Routed(Router(routes, lifespan=lifespan)))
    server.guard = guarded
    return _Measured(guarded, server.metrics, {route.path for route in routes})


def _say_why_it_ended(task: "asyncio.Future[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        _LOG.critical("a task of this worker has ended, which is a bug", exc_info=error)


async def _end_with_the_supervisor() -> None:
    """Stop this worker when who started it is gone: nobody else would.

    It may have gone before this begins, so the parent is who it was at the start.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return
    while os.getppid() == supervisor.pid:  # noqa: ASYNC110 - no event tells of a parent that died
        await asyncio.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class _Plain:
    """Marks a route that is an ASGI app: a router would call a mere function with a request."""

    app: App

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def _wants_explanation(query: bytes) -> bool:
    explain = QueryParams(query).get("explain", "false").lower()
    if explain not in {"true", "false"}:
        problem = FieldProblem("explain", "text", "true or false")
        raise InvalidRequestError("the query is not as it should be", errors=[problem])
    return explain == "true"


class _Routed:
    """A router whose own refusals leave as problems, for the guard to tell the caller.

    There is no middleware of the framework's between: it would answer errors in its own words.
    """

    def __init__(self, router: Router) -> None:
        self._router = router

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["app"] = self._router  # which makes the router raise, not answer, a 404 or a 405
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            raise problem_of_status(error.status_code, error.detail, error.headers) from None


class _Measured:
    """Counts every request, whatever became of it."""

    def __init__(self, app: App, metrics: ServerMetrics, paths: set[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def noticed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        finally:
            seconds = time.perf_counter() - begun
            self._metrics.answered(self._route(scope["path"]), status, seconds)

    def _route(self, path: str) -> str:
        """Name the route of a path; paths that nobody serves count as one."""
        if path in self._paths:
            return path
        parts = path.split("/")
        if len(parts) in {3, 4} and parts[1] == "models":
            route = "/".join(["", "models", "{family}", *parts[3:]])
            return route if route in self._paths else "other"
        return "other"


def _json(value: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(_ENCODER.encode(value), status, media_type=JSON)


def _stream(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
