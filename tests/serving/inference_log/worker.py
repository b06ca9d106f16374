"""Processes that tests start: ``python -m ... VERB ROOT``. What dies in them is a fork of theirs.

A fork needs no imports, so that there is time for many deaths; no thread runs in the parent.
"""

import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from mlops_assets.serving.inference_log import InferenceLog, Kept, LogFullError, WhenFull
from mlops_assets.serving.inference_log.shipping import ship
from tests.serving.inference_log.conftest import answer_with, delay_model, make_lake

KILLS = 15
STEPS = frozenset({"open", "os.rename", "os.remove", "os.mkdir"})


def fork(work: Callable[[], object]) -> int:
    """Run in a process of its own, and return its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Wait for a process and return how it ended: 0, or by which signal."""
    return os.waitpid(child, 0)[1]


def opened(root: Path, when_full: WhenFull = WhenFull.refuse) -> InferenceLog:
    log = InferenceLog(
        root / "inference", sync_seconds=0.01, segment_bytes=20_000, when_full=when_full
    )
    log.declare("flight_delay", 3, delay_model())
    return log


def answer_and_die(root: Path) -> None:
    """Have one worker after the other answer until it is killed."""
    moments = random.Random(20131001)  # noqa: S311 - moments to kill at, no secret
    for name in range(KILLS):
        child = fork(partial(answer_forever, root, name))
        time.sleep(moments.uniform(0.02, 0.3))
        os.kill(child, signal.SIGKILL)
        if ended(child) != signal.SIGKILL:
            sys.exit("a worker ended before it was killed")


def answer_forever(root: Path, name: int) -> None:
    """Answer request after request, and say so after each, as a server does."""
    log = opened(root)
    for number in count():
        rows = 1 + number % 3
        log.append([answer_with(request_id=f"{name}-{number}", rows=rows)])
        os.write(1, b"%d-%d %d\n" % (name, number, rows))


def ship_and_die(root: Path) -> None:
    """Ship fresh segments again and again, each time killed one step later, until it succeeds.

    A step is a file of the log or the lake that is opened, renamed or removed.
    """
    for step in count():
        home = root / f"{step:04d}"
        wrote = ended(fork(partial(write_two_segments, home)))
        shipped = ended(fork(partial(ship_until, home, step)))
        again = ended(fork(lambda home=home: ship(make_lake(home), home / "inference")))
        if wrote or again or shipped not in {0, signal.SIGKILL}:
            sys.exit(f"step {step}: written {wrote}, shipped {shipped}, again {again}")
        if shipped == 0:
            print(step)
            return


def write_two_segments(home: Path) -> None:
    """Write a segment, and one whose last record is damaged."""
    with opened(home) as log:
        log.append([answer_with(request_id="first", rows=3)])
    with opened(home) as log:
        for number in range(3):
            log.append([answer_with(request_id=f"second{number}")])
    _, path = sorted((home / "inference" / "segments").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[-20] ^= 255
    path.write_bytes(data)


def ship_until(home: Path, step: int) -> None:
    """Ship, and be killed when as many steps are done."""
    left = [step]

    def die(event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and str(arguments[0]).startswith(str(home)):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    lake = make_lake(home)
    sys.addaudithook(die)
    ship(lake, home / "inference")


def fill(root: Path, policy: str) -> None:
    """Answer 100 requests on a disk with room for some, from the 61st on with room for all."""
    log = opened(root, WhenFull(policy))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
    for number in range(100):
        if number == 60:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        try:
            outcome = log.append([answer_with(request_id=f"r{number}", answered_at=number)])
        except LogFullError as error:
            print("refused", error.retry_after > 0, log.status().full)
        else:
            print(outcome.value, outcome is Kept.missed, log.status().full)
    log.close()


if __name__ == "__main__":
    verb, root, *arguments = sys.argv[1:]
    {"answer": answer_and_die, "ship": ship_and_die, "fill": fill}[verb](Path(root), *arguments)
