"""The guard around the server's app: who calls, how much, how often, how long.

Pure ASGI, so that it costs microseconds and works around any app. Whatever leaves the app, a
refusal or a bug, becomes a problem document here; nothing waits in an unbounded queue.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any

from mlops_assets.serving.security.authentication import ANONYMOUS, Authenticator
from mlops_assets.serving.security.binding import is_loopback_name
from mlops_assets.serving.security.problems import (
    MEDIA_TYPE,
    InternalError,
    MisdirectedError,
    OverloadedError,
    RequestError,
    SlowRequestError,
    TooLargeError,
)
from mlops_assets.serving.security.rate import RateLimiter
from mlops_assets.serving.security.redaction import where
from mlops_assets.settings import ServeLimits

Message = MutableMapping[str, Any]
Connection = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Connection, Receive, Send], Awaitable[None]]

ARROW = b"application/vnd.apache.arrow."

_LOG = logging.getLogger(__name__)
_WITHOUT_BODY = {"GET", "HEAD", "OPTIONS", "DELETE"}
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_POLICY_VIOLATION = 1008
_LONGEST_PATH = 200  # of a log line


class Guard:
    """An ASGI app that lets another one answer only what it should.

    The app finds in ``scope["state"]``: `request_id`, unique and made here, which every answer
    carries as ``X-Request-ID``, and `caller`, the `Caller` whose scopes it has still to require.
    Its first ``receive()`` gives the whole body. Headers for safety are added to every answer
    where the app has not set them itself.

    Parameters
    ----------
    app
        What is guarded.
    limits
        Of this process.
    authenticator
        Tells who is calling.
    public
        Paths that need no token and are answered however busy the server is, such as health.

    Attributes
    ----------
    in_flight
        Requests being answered now, public paths aside.
    buffered
        Bytes of bodies held now.
    refused
        Requests that ended with a problem, by status.
    """

    def __init__(
        self,
        app: App,
        limits: ServeLimits,
        authenticator: Authenticator,
        *,
        public: Collection[str] = (),
    ) -> None:
        self._app = app
        self._limits = limits
        self._authenticator = authenticator
        self._public = frozenset(public)
        self._rate = RateLimiter(limits.requests_per_second, limits.burst)
        self.in_flight = 0
        self.buffered = 0
        self.refused: Counter[int] = Counter()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one connection's request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # nothing here speaks it, and none of it is limited
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Connection, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        request_id = state["request_id"] = os.urandom(16).hex()
        answer = _Answer(send, request_id.encode())
        try:
            if scope["path"] in self._public:
                state["caller"] = ANONYMOUS
                await self._timed(scope, receive, answer)
            else:
                await self._admit(scope, receive, answer)
        except RequestError as problem:
            await self._refuse(answer, problem)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the caller gets an answer
            _LOG.error(
                "%s %r, request %s: %s",
                scope["method"],
                scope["path"][:_LONGEST_PATH],
                request_id,
                where(bug),
            )
            await self._refuse(
                answer,
                InternalError(f"The server's log names this request {request_id}"),
            )

    async def _admit(self, scope: Connection, receive: Receive, answer: "_Answer") -> None:
        """Let a request in that is authenticated, not too often asked, and not too many."""
        authorization = host = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"host":
                host = value
        caller = self._authenticator.identify(authorization)
        if caller is ANONYMOUS and host is not None:
            _require_loopback_name(host)
        if self.in_flight >= self._limits.in_flight:
            raise OverloadedError(
                f"{self.in_flight} requests are being answered, and no more are taken"
            )
        self._rate.count(caller.name)
        scope["state"]["caller"] = caller
        self.in_flight += 1
        try:
            await self._timed(scope, receive, answer)
        finally:
            self.in_flight -= 1

    async def _timed(self, scope: Connection, receive: Receive, answer: "_Answer") -> None:
        """Read the body and have the app answer, each within its time."""
        body = _Body(self, scope, receive)
        try:
            async with asyncio.timeout(self._limits.body_seconds) as timer:
                if body.expected and not await body.read():
                    return  # whoever asked is gone
                timer.reschedule(asyncio.get_running_loop().time() + self._limits.answer_seconds)
                await self._app(scope, body.receive, answer.send)
        except TimeoutError:
            if not timer.expired():  # the app's own
                raise
            if not body.complete:
                raise SlowRequestError(
                    f"The body did not arrive within {self._limits.body_seconds:g} s"
                ) from None
            raise OverloadedError(
                f"There was no answer within {self._limits.answer_seconds:g} s; ask for fewer rows "
                "at once, or later"
            ) from None
        finally:
            body.release()

    async def _refuse(self, answer: "_Answer", problem: RequestError) -> None:
        self.refused[int(problem.status)] += 1
        if answer.started:
            # Too late for another status. An answer that just ends is torn off by the server, which
            # is how a caller learns that it is not whole.
            _LOG.warning("request %s: %s, after its answer began", answer.request_id, problem)
            return
        content = problem.body()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(content)).encode()),
            *problem.headers,
        ]
        await answer.send(
            {"type": "http.response.start", "status": int(problem.status), "headers": headers}
        )
        await answer.send({"type": "http.response.body", "body": content})

    def hold(self, size: int) -> None:
        """Count bytes of a body that is being read.

        Raises
        ------
        OverloadedError
            When all bodies together are more than this process holds.
        """
        self.buffered += size
        if self.buffered > self._limits.buffered_bytes:
            raise OverloadedError("Too much is being sent to this server at once")

    def most_bytes(self, content_type: bytes) -> int:
        """Return how large a body of a media type may be."""
        is_arrow = content_type.lower().startswith(ARROW)
        return self._limits.arrow_body_bytes if is_arrow else self._limits.body_bytes


class _Body:
    """The body of one request, read whole within its limits, given once to the app."""

    __slots__ = (
        "_content",
        "_given",
        "_guard",
        "_held",
        "_most",
        "_receive",
        "complete",
        "expected",
    )

    def __init__(self, guard: Guard, scope: Connection, receive: Receive) -> None:
        self._guard, self._receive = guard, receive
        self._content = b""
        self._given = False
        self._held = 0
        length, chunked, media_type = b"", False, b""
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"content-type":
                media_type = value
        self._most = guard.most_bytes(media_type)
        if length.isdigit() and int(length) > self._most:
            raise self._too_large()
        self.expected = chunked or scope["method"] not in _WITHOUT_BODY or length not in {b"", b"0"}
        self.complete = not self.expected

    async def read(self) -> bool:
        """Read all of it; False when the client went away meanwhile."""
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return False
            part = message.get("body", b"")
            self._held += len(part)
            self._guard.hold(len(part))
            if self._held > self._most:
                raise self._too_large()
            if not message.get("more_body", False):
                break
            parts.append(part)
        self._content = b"".join((*parts, part)) if parts else part
        self.complete = True
        return True

    async def receive(self) -> Message:
        """Give the app the body, and after that what the server says."""
        if self._given:
            return await self._receive()
        self._given = True
        return {"type": "http.request", "body": self._content, "more_body": False}

    def release(self) -> None:
        """Hold nothing any more."""
        self._guard.buffered -= self._held
        self._held = 0

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The body is larger than {self._most:,} bytes; send fewer rows at once, or an Arrow "
            "stream, which is smaller and may be larger"
        )


class _Answer:
    """The answer to one request on its way out."""

    __slots__ = ("_request_id", "_send", "started")

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False

    @property
    def request_id(self) -> str:
        return self._request_id.decode()

    async def send(self, message: Message) -> None:
        """Pass a message on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.started = True
            own = list(message.get("headers", ()))
            message = {
                **message,
                "headers": [*own, (b"x-request-id", self._request_id), *_missing_of(own)],
            }
        await self._send(message)


def _missing_of(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    """Return the headers for safety that an app has not set itself."""
    names = {name for name, _ in headers}
    return _SAFE if names.isdisjoint(_SAFE_NAMES) else [h for h in _SAFE if h[0] not in names]


_SAFE_NAMES = frozenset(name for name, _ in _SAFE)


def _require_loopback_name(host: bytes) -> None:
    """Refuse a web page that made its own name stand for this machine (DNS rebinding).

    A browser sends the name of the page's site, which then is not one of this machine's own.
    """
    name = host.decode("latin-1").lower()
    if not name.endswith("]"):
        name = name.rpartition(":")[0] or name
    if not is_loopback_name(name):
        raise MisdirectedError(
            "Without tokens this server answers only requests to localhost or a loopback address; "
            "make a token with `mlops tokens create`"
        )
