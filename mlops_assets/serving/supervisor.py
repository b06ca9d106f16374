"""The server's processes: workers on one socket, started again when one dies, and the follower.

The follower starts when the workers answer: opening the registry takes longer than all they need,
and what was deployed last is at hand.
"""

import logging
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_assets.serving.metrics import prepare_folder
from mlops_assets.serving.security.binding import require_safe_binding
from mlops_assets.settings import Settings

_LOG = logging.getLogger(__name__)
_BACKLOG = 2048
_GRACE_SECONDS = 10
_READY_SECONDS = 30
_AGAIN_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 60.0


class CannotListenError(RuntimeError):
    """The address is taken, or may not be used."""


@dataclass(frozen=True)
class Address:
    """Where the server listens.

    Attributes
    ----------
    host, port
        As bound; the port is the real one where a free one was asked for.
    """

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound
        return f"http://{local.get(self.host, self.host)}:{self.port}"


def listen(settings: Settings) -> tuple[socket.socket, Address]:
    """Open the socket that all workers share.

    Raises
    ------
    UnsafeBindingError
        When the host is not loopback and there are no tokens.
    CannotListenError
        When the address cannot be had.
    """
    host, port = settings.serve_host, settings.serve_port
    require_safe_binding(host, settings.home / "serving" / "tokens.json")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise CannotListenError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another with "
            "--port, or end what uses it"
        ) from error
    opened.set_inheritable(True)
    return opened, Address(host, opened.getsockname()[1])


def serve(
    settings: Settings, opened: socket.socket, address: Address, follower: Sequence[str]
) -> int:
    """Run workers and follower until told to stop.

    Parameters
    ----------
    settings
        Of the deployment; workers read the same from their environment.
    opened
        The socket.
    address
        Its address.
    follower
        Command of the process that follows the registry.

    Returns
    -------
    int
        0 after Ctrl-C or a termination signal.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from mlops_assets.serving.worker import WorkerProtocol

    prepare_folder(settings.home / "serving" / "metrics")
    # What was said on the command line holds for the processes of the server too.
    os.environ |= {
        "MLOPS_HOME": str(settings.home),
        "MLOPS_SERVE_HOST": settings.serve_host,
        "MLOPS_SERVE_PORT": str(address.port),
        "MLOPS_SERVE_WORKERS": str(settings.serve_workers),
    }
    config = uvicorn.Config(
        "mlops_assets.serving.worker:create_app",
        factory=True,
        host=settings.serve_host,
        port=settings.serve_port,
        workers=settings.serve_workers,
        loop="uvloop",
        http=WorkerProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    keeper = _Kept(follower, address)
    keeper.start()
    try:
        Multiprocess(config, sockets=[opened]).run()
    finally:
        keeper.stop()
    return 0


class _Kept(threading.Thread):
    """Starts a process once the server answers, and again whenever it ends."""

    def __init__(self, command: Sequence[str], address: Address) -> None:
        super().__init__(name="follower", daemon=True)
        self._command = command
        self._url = f"{address.url}/health"
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        give_up = time.monotonic() + _READY_SECONDS
        while not self._answers() and time.monotonic() < give_up:
            if self._stopping.wait(0.1):
                return
        pause = _AGAIN_SECONDS
        while not self._stopping.is_set():
            begun = time.monotonic()
            # A group, so that Ctrl-C at the terminal reaches the supervisor alone; not a session,
            # in which Linux would weigh it by itself, whatever its priority is.
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command, process_group=0
            )
            code = self._process.wait()
            # One that dies at once is not helped by being started every second.
            lived = time.monotonic() - begun
            pause = (
                _AGAIN_SECONDS
                if lived > _MOST_PAUSE_SECONDS
                else min(2 * pause, _MOST_PAUSE_SECONDS)
            )
            if not self._stopping.is_set():
                _LOG.error("the follower ended (%s); starting it again in %.0f s", code, pause)
                self._stopping.wait(pause)

    def stop(self) -> None:
        """End it, and wait for its end."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.join(_GRACE_SECONDS)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._url, timeout=1) as answer:  # noqa: S310 - our own
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
