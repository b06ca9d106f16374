"""Real servers for tests: started on a free port, awaited, and stopped with all they started."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

# Deadlines, not expectations: they end a test that would otherwise wait forever.
READY_SECONDS = 180
STOP_SECONDS = 60


def free_port() -> int:
    """Return a port of the loopback interface on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Say whether a server answers at this address, with any status."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback addresses of this test
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = READY_SECONDS) -> None:
    """Wait for a condition, asking again and again, and fail naming it after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(0.2)


@contextmanager
def serving(
    command: Sequence[str | Path], environment: Mapping[str, str], *, ready: str, log: Path
) -> Iterator[None]:
    """Run a server for the length of the block.

    Parameters
    ----------
    ready
        Address that answers once the server is up.
    log
        File for what the server prints; its end is shown when the server does not come up.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(ready), f"{ready} answers")
        assert process.poll() is None, f"the server ended:\n{log.read_text()[-4000:]}"
        yield
    finally:
        left = stop(process)
    assert left == [], f"processes outlived their server: {left}"


def family_of(pid: int) -> list[psutil.Process]:
    """Return a process and everything that it started and that still runs."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def stop(process: subprocess.Popen[bytes]) -> list[str]:
    """Interrupt a server as Ctrl-C does and wait for it and all that it started.

    Returns
    -------
    list
        Command lines of those that had to be killed after the deadline; none, if all is well.
    """
    family = family_of(process.pid)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGINT)
    # This process reaps its own child; for the others psutil looks whether they still run.
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and (running := _running(family)):
        process.poll()
        time.sleep(0.1)
    running = _running(family)
    left = [" ".join(found.cmdline())[:200] for found in running]
    for found in running:
        found.kill()
    process.wait(STOP_SECONDS)
    return left


def _running(family: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [
        found for found in family if found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    ]
