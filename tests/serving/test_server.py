"""`mlops serve` as it is run: processes that come, go, are killed and end."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.registry import ModelReference, Registry, promotion
from mlops_assets.settings import load_settings
from tests.demo import MLOPS, copy_home, environment_of
from tests.servers import family_of, wait_until
from tests.serving.asking import arrow
from tests.serving.world import World

FAMILY = "late_flights"
PREDICT = f"/models/{FAMILY}/predict"
# Short, so that a test of them need not wait.
LIMITS = {"idle_seconds": 1.5, "body_seconds": 1.5}
SECONDS = 120


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    home: Path
    output: Path

    @property
    def workers(self) -> set[int]:
        """The processes that answer."""
        return {
            child.pid
            for child in family_of(self.process.pid)
            if any("spawn_main" in part for part in arguments_of(child))
        }

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send one request on a connection of its own; return the status and what was said."""
        with closing(self.connect()) as connection:
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            said = {"content-type": "application/json", **headers}
            connection.request(method, path, sent if body is not None else None, said)
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.headers["content-type"]
            if "arrow" in kind:
                return answer.status, content
            return answer.status, json.loads(content) if "json" in kind else content.decode()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/ready")[0] == 200
        except OSError:
            return False


def arguments_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def running(home: Path, folder: Path) -> Iterator[Server]:
    """Run a server with two workers on a free port; whatever is left of it is killed."""
    output = folder / "output.txt"
    environment = environment_of(home) | {"MLOPS_SERVE_LIMITS": json.dumps(LIMITS)}
    with output.open("w") as errors:
        process = subprocess.Popen(
            [*MLOPS, "serve", "--port", "0", "--workers", "2"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    found: list[psutil.Process] = []
    try:
        said = process.stdout.readline()
        match = re.fullmatch(r"model server http://127\.0\.0\.1:(\d+)\n", said)
        assert match, f"{said}{output.read_text()}"
        server = Server(process, int(match[1]), home, output)
        wait_until(
            lambda: process.poll() is not None or server.is_ready(), "it is ready", seconds=SECONDS
        )
        assert process.poll() is None, output.read_text()
        found = family_of(process.pid)
        yield server
    finally:
        for each in {*found, *family_of(process.pid)}:
            with closing_process():
                each.kill()
        process.wait(SECONDS)
        process.stdout.close()


@contextmanager
def closing_process() -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        return


@pytest.fixture(scope="module")
def home(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_home(world.home, tmp_path_factory.mktemp("server") / "home")


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(home, tmp_path_factory.mktemp("output")) as started:
        yield started


@pytest.fixture(scope="module")
def question(world: World) -> dict[str, Any]:
    return {"rows": world.features(FAMILY, 1).to_pylist()}


def left_of(server: Server) -> list[psutil.Process]:
    return [
        process for process in family_of(server.process.pid) if process.pid != server.process.pid
    ]


# One server for all of these --------------------------------------------------------------------


def test_it_answers_as_the_estimator_does(
    server: Server, world: World, question: dict[str, Any]
) -> None:
    rows = world.features(FAMILY, 1)
    for _ in range(4):
        status, said = server.ask("POST", PREDICT, question)
        assert status == 200, said
        number = said["model"].rpartition("/")[2]
        expected = world.answers(f"{FAMILY}/{number}", rows)
        assert [each["probability"] for each in said["predictions"]] == expected.tolist()
    status, _ = server.ask(
        "POST", PREDICT, arrow(rows), **{"content-type": "application/vnd.apache.arrow.stream"}
    )
    assert status == 200


def test_metrics_are_of_all_workers(server: Server) -> None:
    labels = f'route="/models/{{family}}/predict",status="{HTTPStatus.UNSUPPORTED_MEDIA_TYPE}"'

    def counted() -> float:
        text = server.ask("GET", "/metrics")[1]
        found = re.search(rf"mlops_requests_total{{{re.escape(labels)}}} (\S+)", text)
        return float(found[1]) if found else 0.0

    for _ in range(20):
        server.ask("POST", PREDICT, b"text", **{"content-type": "text/plain"})
    # Each worker counts at its own pace.
    wait_until(lambda: counted() >= 20, "all are counted", seconds=SECONDS)
    assert counted() == 20


def test_it_follows_an_alias_and_no_request_fails(server: Server, question: dict[str, Any]) -> None:
    settings = load_settings(home=server.home, threads=2)
    registry = Registry.from_settings(settings, Lake.from_settings(settings))
    answered: list[str] = []
    failed: list[Any] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            status, said = server.ask("POST", PREDICT, question)
            (answered if status == 200 else failed).append(said["model"] if status == 200 else said)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        wait_until(lambda: f"{FAMILY}/1" in answered, "the first answers", seconds=SECONDS)
        promotion.promote_by_hand(registry, ModelReference(FAMILY, 2), actor="ann", reason="try")
        # Both workers have it when ten answers in a row come from it.
        wait_until(
            lambda: set(answered[-10:]) == {f"{FAMILY}/2"}, "the second answers", seconds=SECONDS
        )
    finally:
        stopped.set()
        asking.join(SECONDS)
    assert failed == []
    assert server.ask("GET", "/ready")[1]["models"][FAMILY] == f"{FAMILY}/2"


def test_a_worker_that_is_killed_is_replaced_while_the_other_answers(
    server: Server, question: dict[str, Any]
) -> None:
    before = server.workers
    assert len(before) == 2
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    lost = 0
    while len(server.workers - {killed}) < 2:
        try:
            status, said = server.ask("POST", PREDICT, question)
        except ConnectionError:  # it had been taken by the process that died
            lost += 1
            continue
        assert status == 200, said
        time.sleep(0.05)
    assert lost <= 2
    wait_until(server.is_ready, "it is ready again", seconds=SECONDS)


def test_what_is_answered_becomes_rows_of_the_lake_also_of_a_worker_that_was_killed(
    server: Server, question: dict[str, Any]
) -> None:
    ids = set()
    with closing(server.connect()) as connection:
        for _ in range(20):
            connection.request(
                "POST", PREDICT, json.dumps(question), {"content-type": "application/json"}
            )
            ids.add(json.loads(connection.getresponse().read())["predictions"][0]["id"])
    for worker in server.workers:
        os.kill(worker, signal.SIGKILL)
    lake = Lake.from_settings(load_settings(home=server.home, threads=2))
    table = TableName("inference", FAMILY)

    def shipped() -> list[str]:
        if table not in lake.tables():
            return []
        with lake.connect(tables=[table]) as con:
            found = con.execute(f"SELECT prediction_id FROM {table.sql}").fetchnumpy()
        return [name for name in found["prediction_id"].tolist() if name in ids]

    wait_until(lambda: len(shipped()) >= len(ids), "the answers are in the lake", seconds=SECONDS)
    assert sorted(shipped()) == sorted(ids)
    wait_until(server.is_ready, "it is ready again", seconds=SECONDS)


def test_a_client_that_never_finishes_its_head_is_cut_off(server: Server) -> None:
    with server.open() as slow:
        slow.settimeout(0.1)
        sent = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                slow.sendall(sent)  # a byte now and then does not buy more time
                if slow.recv(1) == b"":
                    return
            except TimeoutError:
                sent = b"x"
            except ConnectionError:
                return
    raise AssertionError("it was never cut off")


def test_a_client_that_never_finishes_its_body_is_told_and_cut_off(server: Server) -> None:
    with server.open() as slow:
        slow.sendall(
            f"POST {PREDICT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            "Content-Length: 100\r\n\r\n{".encode()
        )
        said = everything(slow)
    assert said.startswith(b"HTTP/1.1 408")


def test_a_client_that_closes_its_half_is_let_go(server: Server, question: dict[str, Any]) -> None:
    for sent in (
        b"",
        b"POST ",
        f"POST {PREDICT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{{".encode(),
    ):
        with server.open() as half:
            half.sendall(sent)
            half.shutdown(socket.SHUT_WR)
            everything(half)  # ends, so the server has let go
    assert server.ask("POST", PREDICT, question)[0] == 200


def everything(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_hundred_megabytes_are_refused(
    server: Server, question: dict[str, Any], *, chunked: bool
) -> None:
    megabyte = b" " * (1 << 20)
    memory = {worker: psutil.Process(worker).memory_info().rss for worker in server.workers}
    with closing(server.connect()) as connection:
        connection.putrequest("POST", PREDICT)
        connection.putheader("Content-Type", "application/json")
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        else:
            connection.putheader("Content-Length", str(100 << 20))
        connection.endheaders()
        try:
            for _ in range(100):
                connection.send(
                    b"%x\r\n%s\r\n" % (len(megabyte), megabyte) if chunked else megabyte
                )
            if chunked:
                connection.send(b"0\r\n\r\n")
        except ConnectionError:
            pass  # it did not want to hear the rest; what it said comes now
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["status"] == 413
    for worker, before in memory.items():
        assert psutil.Process(worker).memory_info().rss < before + (50 << 20)
    assert server.ask("POST", PREDICT, question)[0] == 200


def test_the_address_of_a_running_server_cannot_be_had_again(server: Server) -> None:
    other = subprocess.run(
        [*MLOPS, "serve", "--port", str(server.port)],
        env=environment_of(server.home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 1
    assert f"cannot listen on 127.0.0.1:{server.port}" in other.stderr
    assert "Traceback" not in other.stderr


def test_other_machines_may_not_ask_without_tokens(home: Path) -> None:
    refused = subprocess.run(
        [*MLOPS, "serve", "--host", "0.0.0.0", "--port", "0"],  # noqa: S104 - it is refused
        env=environment_of(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "mlops tokens create" in refused.stderr


# Their end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_when_it_ends_nothing_is_left(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    with running(home, tmp_path) as server:
        wait_until(lambda: len(left_of(server)) >= 3, "all processes run", seconds=SECONDS)
        left = left_of(server)
        server.process.send_signal(number)
        code = server.process.wait(SECONDS)
        wait_until(
            lambda: not [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE],
            "all processes have ended",
            seconds=SECONDS,
        )
    assert code == (0 if number != signal.SIGKILL else -signal.SIGKILL)
