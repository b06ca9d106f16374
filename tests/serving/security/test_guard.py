"""The guard around an app, behind a real server: what it lets in, what it answers otherwise."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from mlops_assets.serving.security import (
    Authenticator,
    Guard,
    InvalidRequestError,
    Scope,
    TokenStore,
)
from mlops_assets.serving.security.connections import bounded_protocol
from mlops_assets.serving.security.guard import Connection, Receive, Send
from mlops_assets.serving.security.problems import FieldProblem
from mlops_assets.settings import ServeLimits
from tests.serving.security.conftest import Events

ARROW = {"content-type": "application/vnd.apache.arrow.stream"}
PUBLIC = "/healthz"


async def answer(send: Send, text: str, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    body = text.encode()
    own = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


class Application:
    """Says who asked and how much was sent; other paths go wrong in their own ways."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting = threading.Semaphore(0)
        self.go_on = threading.Event()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.asked.append(scope["path"])
        match scope["path"]:
            case "/bug" | "/x\nERROR all is lost":
                raise ZeroDivisionError("of the customer's secret")
            case "/own-problem":
                wrong = FieldProblem("rows[0].distance", "text", "a number")
                raise InvalidRequestError("1 field is wrong", errors=[wrong])
            case "/half":
                start = {"type": "http.response.start", "status": 200}
                await send({**start, "headers": [(b"content-length", b"10")]})
                await send({"type": "http.response.body", "body": b"12345", "more_body": True})
                raise ZeroDivisionError
            case "/wait":
                self.waiting.release()
                await asyncio.to_thread(self.go_on.wait)
                await answer(send, "done")
            case "/form":
                await answer(send, "<p>", (b"content-security-policy", b"default-src 'self'"))
            case _:
                message = await receive()
                assert message["more_body"] is False
                state = scope["state"]
                said = {"caller": state["caller"].name, "bytes": len(message["body"])}
                await answer(send, json.dumps({**said, "request_id": state["request_id"]}))


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    app: Application
    guard: Guard

    def client(self, secret: str | None = None) -> httpx.Client:
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=20)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextmanager
def serve(tokens: Path, limits: ServeLimits, events: Events) -> Iterator[Served]:
    application = Application()
    authenticator = Authenticator(tokens, host="127.0.0.1", report=events)
    guard = Guard(application, limits, authenticator, public={PUBLIC})
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            guard, http=bounded_protocol(limits), log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Served(listening.getsockname()[1], application, guard)
        finally:
            application.go_on.set()
            server.should_exit = True
            thread.join()


@pytest.fixture
def tokens(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "tokens.json")


@pytest.fixture
def secret(tokens: TokenStore) -> str:
    return tokens.create("shop", [Scope.predict]).secret


def problem_of(response: httpx.Response) -> dict[str, object]:
    """Read a problem document, and check what all of them have."""
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    assert {"type", "title", "status", "detail"} <= document.keys()
    assert document["type"].startswith("urn:mlops-assets:problem:")
    assert len(response.headers["x-request-id"]) == 32
    assert "Traceback" not in response.text
    return document


def test_a_known_caller_is_let_in_and_named(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with serve(tokens.path, ServeLimits(), events) as served, served.client(secret) as client:
        first = client.post("/predict", content=b"x" * 100)
        second = client.get("/predict")
        assert (first.json()["caller"], first.json()["bytes"]) == ("shop", 100)
        assert (second.json()["caller"], second.json()["bytes"]) == ("shop", 0)
        assert first.json()["request_id"] == first.headers["x-request-id"]
        assert first.json()["request_id"] != second.json()["request_id"]
        assert served.guard.in_flight == served.guard.buffered == 0


def test_an_unknown_caller_is_refused_before_its_body_is_read(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with serve(tokens.path, ServeLimits(), events) as served:
        with served.client() as client:
            refused = client.post("/predict", content=b"x" * 100)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == 'Bearer realm="mlops"'
            problem_of(refused)
            assert client.get(PUBLIC).json()["caller"] == "anonymous"
        with served.client(secret[:-1] + "!") as client:
            refused = client.post("/predict")
            assert "invalid_token" in refused.headers["www-authenticate"]
            assert secret[:-1] not in refused.text
        assert served.app.asked == [PUBLIC]
        assert served.guard.refused == {401: 2}


def test_every_answer_has_headers_for_safety_and_an_app_may_set_its_own(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with serve(tokens.path, ServeLimits(), events) as served, served.client(secret) as client:
        for path in ("/predict", "/bug", "/form", PUBLIC):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["x-frame-options"] == "DENY"
            own = path == "/form"
            expected = "default-src 'self'" if own else "default-src 'none'; frame-ancestors 'none'"
            assert headers.get_list("content-security-policy") == [expected]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(
    tokens: TokenStore, secret: str, events: Events, *, chunked: bool
) -> None:
    limits = ServeLimits(body_bytes=10_000, arrow_body_bytes=50_000)

    def body(size: int) -> bytes | Iterator[bytes]:
        return iter([b"x" * 1000] * (size // 1000)) if chunked else b"x" * size

    with serve(tokens.path, limits, events) as served, served.client(secret) as client:
        assert client.post("/predict", content=body(10_000)).json()["bytes"] == 10_000
        refused = client.post("/predict", content=body(11_000))
        assert refused.status_code == 413
        assert "10,000 bytes" in str(problem_of(refused)["detail"])
        arrow = client.post("/predict", content=body(50_000), headers=ARROW)
        assert arrow.json()["bytes"] == 50_000
        assert client.post("/predict", content=body(51_000), headers=ARROW).status_code == 413
        assert served.guard.in_flight == served.guard.buffered == 0


def test_a_length_that_is_too_large_is_refused_before_anything_is_sent(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Length: 100000000000\r\n\r\n"
    )
    with serve(tokens.path, ServeLimits(), events) as served, served.connect() as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_all_bodies_together_are_bounded(tokens: TokenStore, secret: str, events: Events) -> None:
    limits = ServeLimits(buffered_bytes=20_000)
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        "Content-Length: 15000\r\n\r\n"
    )
    with serve(tokens.path, limits, events) as served, served.connect() as connection:
        connection.sendall(head.encode() + b"x" * 14_999)
        while served.guard.buffered < 14_999:
            time.sleep(0.01)
        with served.client(secret) as client:
            refused = client.post("/predict", content=b"x" * 6_000)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            connection.sendall(b"x")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
            assert client.post("/predict", content=b"x" * 6_000).status_code == 200
        assert served.guard.buffered == 0


def test_a_body_that_comes_too_slowly_is_refused_and_its_connection_closed(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        "Content-Length: 100\r\n\r\nx"
    )
    with (
        serve(tokens.path, ServeLimits(body_seconds=0.2), events) as served,
        served.connect() as connection,
    ):
        connection.sendall(head.encode())
        said = read_all(connection)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"slow-request" in said
        assert served.app.asked == []
        assert served.guard.in_flight == served.guard.buffered == 0


def test_a_client_that_goes_away_leaves_nothing_behind(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        "Content-Length: 100\r\n\r\nx"
    )
    with serve(tokens.path, ServeLimits(), events) as served:
        with served.connect() as connection:
            connection.sendall(head.encode())
            while not served.guard.buffered:
                time.sleep(0.01)
        while served.guard.in_flight:
            time.sleep(0.01)
        assert served.guard.buffered == 0
        assert served.app.asked == []
        assert served.guard.refused == {}


def test_more_than_may_be_in_flight_are_told_to_come_back_and_health_still_answers(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with serve(tokens.path, ServeLimits(in_flight=2), events) as served:
        waiting = [served.connect() for _ in range(2)]
        for connection in waiting:
            connection.sendall(
                f"GET /wait HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()
            )
            assert served.app.waiting.acquire(timeout=20)
        with served.client(secret) as client:
            refused = client.get("/predict")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            problem_of(refused)
            assert client.get(PUBLIC).status_code == 200
            served.app.go_on.set()
            for connection in waiting:
                assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
                connection.close()
            assert client.get("/predict").status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    limits = ServeLimits(answer_seconds=0.2)
    with serve(tokens.path, limits, events) as served, served.client(secret) as client:
        refused = client.get("/wait")
        assert refused.status_code == 503
        assert "0.2 s" in str(problem_of(refused)["detail"])
        assert served.guard.in_flight == 0


def test_a_caller_that_asks_too_often_is_told_when_to_come_back(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    other = tokens.create("bank", [Scope.predict]).secret
    limits = ServeLimits(requests_per_second=0.01, burst=3)
    with serve(tokens.path, limits, events) as served:
        with served.client(secret) as client:
            assert [client.get("/predict").status_code for _ in range(4)] == [200] * 3 + [429]
            refused = client.get("/predict")
            assert 90 <= int(refused.headers["retry-after"]) <= 100
            problem_of(refused)
        with served.client(other) as client:
            assert client.get("/predict").status_code == 200


def test_a_bug_is_answered_and_logged_without_a_traceback(
    tokens: TokenStore, secret: str, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serve(tokens.path, ServeLimits(), events) as served,
        served.client(secret) as client,
        caplog.at_level(logging.INFO),
    ):
        failed = client.post("/bug", content=b"x")
        assert failed.status_code == 500
        assert "customer" not in failed.text + caplog.text
        assert "Traceback" not in caplog.text
        assert secret not in caplog.text
        request_id = failed.headers["x-request-id"]
        assert request_id in str(problem_of(failed)["detail"])
        [line] = [r.getMessage() for r in caplog.records if request_id in r.getMessage()]
        assert "ZeroDivisionError at test_guard.py:" in line
        assert client.get("/predict").status_code == 200


def test_a_path_cannot_forge_a_line_of_the_log(
    tokens: TokenStore, secret: str, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(tokens.path, ServeLimits(), events) as served, served.client(secret) as client:
        client.get("/x%0AERROR all is lost")
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert "all is lost" in caplog.text


def test_the_apps_own_problems_become_documents(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with serve(tokens.path, ServeLimits(), events) as served, served.client(secret) as client:
        refused = client.post("/own-problem")
        assert refused.status_code == 422
        assert problem_of(refused)["errors"] == [
            {"field": "rows[0].distance", "kind": "text", "expected": "a number"}
        ]


def test_an_answer_that_breaks_off_is_not_taken_for_whole(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with (
        serve(tokens.path, ServeLimits(), events) as served,
        served.client(secret) as client,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        client.get("/half")


def test_without_tokens_only_names_of_this_machine_are_answered(
    tokens: TokenStore, events: Events
) -> None:
    with serve(tokens.path, ServeLimits(), events) as served, served.client() as client:
        for host in ("localhost", f"localhost:{served.port}", "127.0.0.2:1", "[::1]:80", "[::1]"):
            assert client.get("/predict", headers={"host": host}).status_code == 200, host
        for host in ("evil.example", "localhost.evil.example:80", "[::2]", ""):
            refused = client.get("/predict", headers={"host": host})
            assert refused.status_code == 421, host
            assert host not in refused.text or not host


def test_a_head_that_never_ends_is_not_waited_for(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with (
        serve(tokens.path, ServeLimits(idle_seconds=0.3), events) as served,
        served.connect() as silent,
        served.connect() as slow,
        served.client(secret) as client,
    ):
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert client.get("/predict").status_code == 200
        assert read_all(silent) == b""
        assert read_all(slow) == b""


def test_an_upload_that_was_refused_is_not_taken_for_ever(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with (
        serve(tokens.path, ServeLimits(idle_seconds=0.3), events) as served,
        served.connect() as connection,
    ):
        connection.sendall(head.encode() + b"1\r\nx\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")
        with pytest.raises(OSError, match=r"(?i)reset|pipe"):
            send_for_ever(connection)


def test_a_connection_may_wait_for_its_answer_longer_than_it_may_idle(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with (
        serve(tokens.path, ServeLimits(idle_seconds=0.1), events) as served,
        served.client(secret) as client,
    ):
        timer = threading.Timer(0.5, served.app.go_on.set)
        timer.start()
        assert client.get("/wait").text == "done"
        timer.join()


def test_connections_beyond_the_most_are_told_to_come_back(
    tokens: TokenStore, secret: str, events: Events
) -> None:
    with serve(tokens.path, ServeLimits(connections=2), events) as served:
        with served.connect(), served.connect():
            with served.connect() as third:
                said = read_all(third)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in said
        deadline = time.monotonic() + 20
        with served.client(secret) as client:
            while client.get("/predict").status_code != 200:
                assert time.monotonic() < deadline


def test_a_websocket_is_turned_away(tokens: TokenStore, events: Events) -> None:
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Connection) -> None:
        sent.append(message["type"])

    authenticator = Authenticator(tokens.path, host="127.0.0.1", report=events)
    application = Application()
    guard = Guard(application, ServeLimits(), authenticator)
    asyncio.run(guard({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == ["websocket.close"]
    assert application.asked == []


def send_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"1\r\nx\r\n")
        time.sleep(0.02)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)
