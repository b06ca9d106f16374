"""Asking the challenger what the champion was asked, after the champion has answered.

It changes no answer, and delays none that one could notice: requests are put down in a bounded
queue and asked in a thread of their own, while the worker has nothing else to do; of a busy
worker's time the challenger gets a hundredth. Where it is behind, requests are dropped and counted.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

from mlops_assets.serving.batching import Call, Reply
from mlops_assets.serving.families import Family, Lane
from mlops_assets.serving.inference_log import LogFullError
from mlops_assets.serving.security.problems import RequestError

_LOG = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Rows that may wait for a challenger."""

MOST_TOGETHER = 16
"""Requests are put together up to so many rows: a call costs little more than for one row, and is
over soon. Python's threads take turns, so that a request which comes meanwhile waits for it."""

BUSY_SHARE = 0.01
"""Of its time, what a worker with requests to answer spends on challengers: the slowest hundredth
of its answers may be slower for it, and no more."""

_LOOK_SECONDS = 0.005
"""How often is looked whether the worker is busy; an event at every request would cost each one."""


class Shadow:
    """The queue before the challengers of one worker.

    Parameters
    ----------
    executor
        Where they are asked, apart from the one that answers callers.
    dropped
        Is told of rows that were not asked.
    busy
        Returns whether the worker has requests to answer.
    """

    def __init__(
        self,
        executor: Executor,
        dropped: Callable[[str, int], None],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._executor = executor
        self._dropped = dropped
        self._busy = busy
        self._waiting: deque[tuple[Lane, str, Call]] = deque()
        self._there = asyncio.Event()
        self.waiting_rows = 0

    def put(self, family: Family, call: Call) -> None:
        """Have a family's challenger asked the same, or drop it."""
        name, rows = family.declaration.name, len(call.inputs)
        challenger = family.challenger
        if challenger is None:
            return
        same = challenger.model.estimator.schema == family.champion.model.estimator.schema
        if not same or self.waiting_rows + rows > MOST_WAITING:
            self._dropped(name, rows)
            return
        self.waiting_rows += rows
        self._waiting.append((challenger, name, call))
        self._there.set()

    async def run(self) -> None:
        """Ask, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                self._there.clear()
                await self._there.wait()
            lane, family, calls = self._next()
            begun = time.monotonic()
            try:
                outcomes = await loop.run_in_executor(self._executor, _asked, lane, calls)
                for call, outcome in zip(calls, outcomes, strict=True):
                    if isinstance(outcome, Exception):
                        self._failed(lane, family, call, outcome)
            finally:
                self.waiting_rows -= sum(len(call.inputs) for call in calls)
            await self._rest((time.monotonic() - begun) / BUSY_SHARE)

    async def _rest(self, seconds: float) -> None:
        """Wait until the worker has nothing else to do, at most so long."""
        until = time.monotonic() + seconds
        await asyncio.sleep(0)
        while self._busy() and time.monotonic() < until:  # noqa: ASYNC110 - see _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)

    def _next(self) -> tuple[Lane, str, list[Call]]:
        """Take what waits for one challenger, up to `MOST_TOGETHER` rows."""
        lane, family, _ = self._waiting[0]
        calls: list[Call] = []
        rows = 0
        while self._waiting and self._waiting[0][0] is lane and rows < MOST_TOGETHER:
            calls.append(self._waiting.popleft()[2])
            rows += len(calls[-1].inputs)
        return lane, family, calls

    def _failed(self, lane: Lane, family: str, call: Call, error: Exception) -> None:
        if isinstance(error, LogFullError | RequestError):
            _LOG.warning("%s was not asked: %s", lane.model, error)
        else:
            # A challenger that cannot answer is what a shadow is there to find.
            _LOG.error("%s failed on what the champion answered", lane.model, exc_info=error)
        self._dropped(family, len(call.inputs))


def _asked(lane: Lane, calls: list[Call]) -> "list[Reply | Exception]":
    return lane.batcher.answer_now([replace(call, role="shadow") for call in calls])
