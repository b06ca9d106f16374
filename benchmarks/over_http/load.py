"""Send requests to an HTTP server as fast as it answers, or at a given rate, and time the answers.

What belongs here: sockets, latencies, and nothing that knows a server or a model. One process, one
thread, `select.epoll` and raw sockets that stay open, requests made beforehand: some 15 µs of CPU a
request, so that a server of one process is the bottleneck. `Load.busy` says whether it was.

With ``--rate``, requests are due at fixed times however slowly they are answered, and a latency
counts from when its request was due: a server that stops for a moment is charged for everybody who
would have come meanwhile.
"""

import argparse
import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_SEPARATOR = b"\r\n\r\n"
_CHUNK = 1 << 18
_OK = range(200, 300)
_SHOWN = 200
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Load:
    """What one run of the load found.

    Attributes
    ----------
    requests, failed
        How many were answered, and how many of these were not answered with success; a connection
        that the server closed before its answer was whole counts as failed.
    seconds
        From the first request to the last answer.
    latencies
        Seconds of every answer, sorted.
    busy
        CPU seconds of this process over `seconds`: near 1, the load was the bottleneck.
    first_failure
        What the server said then.
    """

    requests: int
    failed: int
    seconds: float
    latencies: tuple[float, ...]
    busy: float
    first_failure: str = ""

    @property
    def per_second(self) -> float:
        """Requests answered with success, in one second."""
        return (self.requests - self.failed) / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float:
        """Latency in seconds that this share of the answers did not exceed."""
        if not self.latencies:
            return float("nan")
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def http_request(
    port: int, path: str, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a POST request."""
    fields = {
        "Host": f"127.0.0.1:{port}",
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def ask(port: int, request: bytes, timeout_s: float = _PATIENCE_S) -> tuple[int, bytes]:
    """Send one request on a connection of its own; return the status and the body.

    Raises
    ------
    OSError
        When nobody listens, or the answer is not whole in time.
    """
    with socket.create_connection(("127.0.0.1", port), timeout_s) as opened:
        opened.sendall(request)
        answer = _Answer()
        while not answer.add(opened.recv(_CHUNK)):
            pass
        if not answer.status:
            raise ConnectionError(f"port {port} closed the connection before its answer was whole")
        return answer.status, answer.body


class _Answer:
    """One answer as its bytes arrive."""

    __slots__ = ("_body_at", "_chunked", "_received", "_whole_at", "status")

    def __init__(self) -> None:
        self._received = b""
        self._body_at = self._whole_at = 0
        self._chunked = False
        self.status = 0

    def add(self, part: bytes) -> bool:
        """Take what arrived; return whether that was all. An end too early leaves status 0."""
        if not part:
            self.status = 0
            return True
        self._received = self._received + part if self._received else part
        if not self._body_at:
            end = self._received.find(_SEPARATOR)
            if end < 0:
                return False
            self._read_head(self._received[:end].lower())
            self._body_at = end + len(_SEPARATOR)
            self._whole_at += self._body_at
        if self._chunked:
            return self._received.endswith(b"0" + _SEPARATOR)
        return len(self._received) >= self._whole_at

    def _read_head(self, head: bytes) -> None:
        self.status = int(head[9:12])
        at = head.find(b"content-length:")
        if at >= 0:
            self._whole_at = int(head[at + 15 :].partition(b"\r\n")[0])
        else:
            self._chunked = b"transfer-encoding: chunked" in head

    @property
    def body(self) -> bytes:
        """Its body."""
        sent = self._received[self._body_at :]
        return _unchunked(sent) if self._chunked else sent


def _unchunked(sent: bytes) -> bytes:
    parts, at = [], 0
    while True:
        end = sent.index(b"\r\n", at)
        size = int(sent[at:end], 16)
        if not size:
            return b"".join(parts)
        parts.append(sent[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


class _Connection:
    """A connection that stays open, and the request that is under way on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.answer = _Answer()
        self.begun = 0.0
        self._unsent = memoryview(b"")

    @property
    def closed(self) -> bool:
        """Whether the server has closed it; for one on which no answer is due."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def send(self, request: bytes, begun: float) -> bool:
        """Begin a request; return whether all of it is sent."""
        self.answer, self.begun = _Answer(), begun
        self._unsent = memoryview(request)
        return self.send_more()

    def send_more(self) -> bool:
        """Send what the socket takes; return whether that was the rest."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        return True


class _Driver:
    """Keeps connections busy until the time is over."""

    def __init__(self, port: int, requests: Sequence[bytes], connections: int) -> None:
        self._port = port
        self._requests = requests
        self._poll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._idle: list[_Connection] = [_Connection(port) for _ in range(connections)]
        for each in self._idle:
            self._poll.register(each.socket, select.EPOLLIN)
        self._sent = 0
        self.latencies: list[float] = []
        self.failed = 0
        self.first_failure = ""

    def drive(self, seconds: float, most: int, rate: float | None) -> None:
        """Send for so long, so many at most, and wait for the last answers.

        Raises
        ------
        TimeoutError
            When the server has stopped answering.
        """
        clock = time.perf_counter
        begun = clock()
        end = begun + seconds
        while True:
            now = clock()
            while self._idle and self._sent < most:
                due = now if rate is None else begun + self._sent / rate
                if due >= end or due > now or now >= end + _PATIENCE_S:
                    break
                self._send(self._idle.pop(), due)
                now = clock()
            if not self._busy and (now >= end or self._sent >= most):
                return
            if now > end + _PATIENCE_S:
                raise TimeoutError(f"{len(self._busy)} requests were not answered")
            wait = 1.0
            if rate is not None and self._idle:
                wait = max(0.0, begun + self._sent / rate - now)
            for descriptor, event in self._poll.poll(wait):
                self._go_on(self._busy.get(descriptor), event)

    def _send(self, connection: _Connection, begun: float) -> None:
        self._busy[connection.socket.fileno()] = connection
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        if not connection.send(request, begun):
            self._poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _go_on(self, connection: "_Connection | None", event: int) -> None:
        if connection is None:
            self._replace_closed()
            return
        if event & select.EPOLLOUT and connection.send_more():
            self._poll.modify(connection.socket, select.EPOLLIN)
        if not event & ~select.EPOLLOUT:
            return
        try:
            part = connection.socket.recv(_CHUNK)
        except ConnectionError:
            part = b""
        if not connection.answer.add(part):
            return
        self.latencies.append(time.perf_counter() - connection.begun)
        del self._busy[connection.socket.fileno()]
        if connection.answer.status not in _OK:
            self.failed += 1
            self.first_failure = self.first_failure or (
                f"{connection.answer.status} {connection.answer.body[:_SHOWN]!r}"
            )
        self._idle.append(connection if connection.answer.status else self._fresh(connection))

    def _replace_closed(self) -> None:
        """Open those again that the server closed while nothing was asked, as it may."""
        self._idle = [self._fresh(each) if each.closed else each for each in self._idle]

    def _fresh(self, closed: _Connection) -> _Connection:
        self._poll.unregister(closed.socket)
        closed.socket.close()
        opened = _Connection(self._port)
        self._poll.register(opened.socket, select.EPOLLIN)
        return opened


def drive(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    most: int,
    rate: float | None = None,
) -> Load:
    """Load a server from this process.

    Parameters
    ----------
    port
        Where it listens, on 127.0.0.1.
    requests
        Whole requests; sent one after another, again from the first after the last.
    connections
        How many are open, with one request under way on each.
    seconds, most
        When to send no more.
    rate
        Requests due in a second; None for as many as are answered.
    """
    driver = _Driver(port, requests, connections)
    cpu, begun = time.process_time(), time.perf_counter()
    driver.drive(seconds, most, rate)
    took = time.perf_counter() - begun
    return Load(
        requests=len(driver.latencies),
        failed=driver.failed,
        seconds=took,
        latencies=tuple(sorted(driver.latencies)),
        busy=(time.process_time() - cpu) / took,
        first_failure=driver.first_failure,
    )


def load(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    most: int = 10_000_000,
    rate: float | None = None,
) -> Load:
    """Load a server from a process of its own; parameters as of `drive`.

    Raises
    ------
    RuntimeError
        When the load could not be run.
    """
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        for place, request in enumerate(requests):
            (Path(folder) / f"{place:06d}").write_bytes(request)
        command = [
            *(sys.executable, "-I", __file__, folder, "--port", str(port)),
            *("--connections", str(connections), "--seconds", str(seconds), "--most", str(most)),
            *(() if rate is None else ("--rate", str(rate))),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 2 * _PATIENCE_S,
        )
    if done.returncode:
        raise RuntimeError(f"the load ended early: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    return Load(**{**found, "latencies": tuple(found["latencies"])})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("requests", type=Path, help="folder with one file a request")
    parser.add_argument("--port", type=int, required=True, help="of the server, on 127.0.0.1")
    parser.add_argument("--connections", type=int, default=1, help="requests under way at once")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to send")
    parser.add_argument("--most", type=int, default=10_000_000, help="how many to send")
    parser.add_argument("--rate", type=float, default=None, help="due in a second")
    options = parser.parse_args()
    requests = [path.read_bytes() for path in sorted(options.requests.iterdir())]
    found = drive(
        options.port,
        requests,
        connections=options.connections,
        seconds=options.seconds,
        most=options.most,
        rate=options.rate,
    )
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
