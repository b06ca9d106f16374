"""Asking the challenger what the champion was asked, after the champion has answered.

It never delays an answer and never changes one: requests are put down in a bounded queue and asked
in a thread of their own, and where the challenger is behind, they are dropped and counted.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

from mlops_assets.serving.batching import Call
from mlops_assets.serving.families import Family, Lane
from mlops_assets.serving.inference_log import LogFullError
from mlops_assets.serving.security.problems import RequestError

_LOG = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Rows that may wait for a challenger."""


class Shadow:
    """The queue before the challengers of one worker.

    Parameters
    ----------
    executor
        Where they are asked, apart from the one that answers callers.
    dropped
        Is told of rows that were not asked.
    """

    def __init__(self, executor: Executor, dropped: Callable[[str, int], None]) -> None:
        self._executor = executor
        self._dropped = dropped
        self._queue: asyncio.Queue[tuple[Lane, str, Call]] = asyncio.Queue()
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
        self._queue.put_nowait((challenger, name, call))

    async def run(self) -> None:
        """Ask, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            lane, family, call = await self._queue.get()
            rows = len(call.inputs)
            try:
                await loop.run_in_executor(
                    self._executor, lane.batcher.answer_now, replace(call, role="shadow")
                )
            except (LogFullError, RequestError) as error:
                _LOG.warning("%s was not asked: %s", lane.model, error)
                self._dropped(family, rows)
            except Exception:  # noqa: BLE001 - its own, and nobody waits for it
                # A challenger that cannot answer is what a shadow is there to find.
                _LOG.exception("%s failed on what the champion answered", lane.model)
                self._dropped(family, rows)
            finally:
                self.waiting_rows -= rows
