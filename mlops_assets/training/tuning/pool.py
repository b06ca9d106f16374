"""Worker processes, seen from the search: started, spoken to, replaced, and surely ended.

They are programs of their own and not `multiprocessing` children: those would import the caller's
main module again (the `dagster` or `mlops` command), and may not be started from a daemonic one.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from mlops_assets.training.tuning.messages import Job, Reply, Setup

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LAST_WORDS = 400  # characters
_GOODBYE_S = 10.0


class WorkerDiedError(RuntimeError):
    """A worker process ended in the middle of a trial; the message says how."""


class Worker:
    """One worker process.

    Parameters
    ----------
    setup
        What it works on.
    folder
        For what it writes to its standard error; exists as long as the worker.
    name
        Unique among the workers of a folder.
    """

    def __init__(self, setup: Setup, folder: Path, name: str) -> None:
        ours, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        self._words = folder / f"{name}.stderr"
        threads = str(setup.threads)
        with theirs, self._words.open("wb") as words:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                [sys.executable, "-P", "-X", "faulthandler", "-m", _PROGRAM,
                 str(theirs.fileno()), str(lifeline)],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                pass_fds=(theirs.fileno(), lifeline),
                env={
                    **os.environ,
                    **dict.fromkeys(_THREAD_VARIABLES, threads),
                    "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
                },
            )  # fmt: skip
        os.close(lifeline)
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self._setup: Setup | None = setup

    def begin(self, job: Job) -> None:
        """Have it fit.

        Raises
        ------
        WorkerDiedError
            When it is no longer there.
        """
        if self._setup is not None:
            self._send(self._setup)
            self._setup = None
        self._send(job)

    def answer(self, *, go_on: bool) -> None:
        """Answer its report.

        Raises
        ------
        WorkerDiedError
            When it is no longer there.
        """
        self._send(go_on)

    def receive(self) -> Reply:
        """Take what it said; waits until it says something.

        Raises
        ------
        WorkerDiedError
            When it ended instead.
        """
        try:
            reply: Reply = self.connection.recv()
        except (EOFError, OSError):
            raise WorkerDiedError(self._how_it_ended()) from None
        return reply

    def end(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.wait()
        if not self.connection.closed:
            self.connection.close()
            os.close(self._lifeline)

    def _send(self, message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError:
            raise WorkerDiedError(self._how_it_ended()) from None

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:  # it hung up and yet goes on
            self._process.kill()
            code = self._process.wait()
        words = self._words.read_text(encoding="utf-8", errors="replace").strip()
        said = f"; it said: {words[-_LAST_WORDS:]}" if words else ""
        if code >= 0:
            return f"the worker process ended with exit code {code}{said}"
        hint = ", which is what the system does when memory runs out" if code == -9 else ""
        return f"the worker process was ended by {signal.Signals(-code).name}{hint}{said}"


_PROGRAM = "mlops_assets.training.tuning.worker"


class Pool:
    """So many workers, each started when it is first needed.

    Parameters
    ----------
    setup
        What they work on.
    size
        How many there may be.
    folder
        For their standard error.
    """

    def __init__(self, setup: Setup, size: int, folder: Path) -> None:
        self._setup = setup
        self._size = size
        self._folder = folder
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (*self._idle, *self._busy):
            worker.end()

    @property
    def has_room(self) -> bool:
        """Whether another trial may begin."""
        return len(self._busy) < self._size

    def take(self) -> Worker:
        """Return a worker that has nothing to do, a new one where all are busy."""
        if self._idle:
            worker = self._idle.pop()
        else:
            self._started += 1
            worker = Worker(self._setup, self._folder, str(self._started))
        self._busy.append(worker)
        return worker

    def give_back(self, worker: Worker) -> None:
        """Say that a worker's trial has ended."""
        self._busy.remove(worker)
        self._idle.append(worker)

    def discard(self, worker: Worker) -> None:
        """End a worker; another one takes its place when needed."""
        self._busy.remove(worker)
        worker.end()


def wait_for(workers: Sequence[Worker], seconds: float) -> list[Worker]:
    """Return the workers that have said something or died, waiting at most so long."""
    ready = wait([worker.connection for worker in workers], timeout=max(0.0, seconds))
    return [worker for worker in workers if worker.connection in ready]
