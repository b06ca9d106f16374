"""One call of a model for all requests that are waiting, and one write of the log.

While the model answers one batch, requests arrive; together they are the next batch. So a batch is
as large as the load is high, nobody waits for a batch to fill, and the price of a call is shared.
A call that would keep the event loop busy for long goes to a thread.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.serving.inference_log import (
    Answered,
    Event,
    EventKind,
    InferenceLog,
    InferenceLogError,
    Kept,
    LogFullError,
)
from mlops_assets.serving.inputs import Inputs, joined
from mlops_assets.serving.served import ServedModel

LONG_SECONDS = 0.002
"""A call that takes longer than this runs in a thread."""

MOST_ROWS = 1_000
"""Requests are put together up to so many rows; a larger one goes alone."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one model, with what the log keeps of it.

    Attributes
    ----------
    inputs
        Its rows.
    role
        `champion`, `canary` or `shadow`.
    request_id, caller, source
        Who asks, under which number, and where the features came from.
    begun
        `time.perf_counter()` when the request arrived.
    as_of, entity, feature_versions, warnings
        As `Answered` has them.
    """

    inputs: Inputs
    role: str
    request_id: str
    caller: str
    source: str
    begun: float
    as_of: Sequence[int] | None = None
    entity: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    feature_versions: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call gets.

    Attributes
    ----------
    answers
        Shape (rows,) or (rows, outputs).
    kept
        Whether the log holds it.
    """

    answers: NDArray[np.float64]
    kept: Kept


class Batcher:
    """Puts the calls of one model together.

    Parameters
    ----------
    model
        Answers.
    log
        Holds every answer before its caller does.
    executor
        Runs long calls.
    observe
        Is told how many rows each call of the model had, and how many seconds it took.
    """

    def __init__(
        self,
        model: ServedModel,
        log: InferenceLog,
        executor: Executor,
        observe: Callable[[int, float], None],
    ) -> None:
        self.model = model
        self._log = log
        self._executor = executor
        self._observe = observe
        self._waiting: list[tuple[Call, asyncio.Future[Reply]]] = []
        self._running: set[asyncio.Future[None]] = set()

    async def answer(self, call: Call) -> Reply:
        """Answer a call, together with those that wait too.

        Parameters
        ----------
        call
            What is asked.

        Raises
        ------
        LogFullError
            When the answer cannot be logged and must not leave then.
        """
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[Reply] = loop.create_future()
        if not self._waiting:
            # Runs after every request that has arrived by now was read and is waiting too.
            loop.call_soon(self._start)
        self._waiting.append((call, mine))
        return await mine

    def answer_now(self, calls: Sequence[Call]) -> "list[Reply | Exception]":
        """Answer calls together, in the thread that asks; for callers that wait for nobody.

        Returns
        -------
        list
            For each call its reply, or why there is none.
        """
        return self._answered(calls)

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        for batch in _batches(waiting):
            calls = [call for call, _ in batch]
            futures = [future for _, future in batch]
            rows = sum(len(call.inputs) for call in calls)
            if self._is_short(rows):
                _hand_out(futures, self._answered(calls))
                continue
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._executor, self._answered, calls)
            self._running.add(running)  # type: ignore[arg-type] # only kept from being collected
            running.add_done_callback(self._running.discard)  # type: ignore[arg-type] # as above
            running.add_done_callback(
                lambda done, futures=futures: _hand_out(futures, _outcome(done, len(futures)))  # type: ignore[misc] # bound now
            )

    def _is_short(self, rows: int) -> bool:
        return self.model.cost.of(rows) <= LONG_SECONDS

    def _answered(self, calls: Sequence[Call]) -> "list[Reply | Exception]":
        """Answer calls together; one by one if that fails."""
        try:
            return [*self._together(calls)]
        except LogFullError as error:  # which holds for each of them
            return [error] * len(calls)
        except Exception as error:  # noqa: BLE001 - a library's; it is the callers' to raise
            if len(calls) == 1:
                self._tell_of(error, calls[0])
                return [error]
            # One of them is the cause, and the others are not to suffer for it.
            return [self._answered([call])[0] for call in calls]

    def _tell_of(self, error: Exception, call: Call) -> None:
        """Write down that the model gave no answer to a call that somebody waits for."""
        if call.role == "shadow" or isinstance(error, InferenceLogError):
            return
        self._log.report(
            Event(
                EventKind.model_failed,
                f"{self.model} gave no answer: {type(error).__name__}: {error}",
                family=self.model.family,
                version=self.model.version,
                rows=len(call.inputs),
            )
        )

    def _together(self, calls: Sequence[Call]) -> list[Reply]:
        """Answer calls with one call of the model and one write of the log."""
        begun = time.perf_counter()
        answers = self.model.scorer.answers(joined([call.inputs for call in calls]))
        finished = time.perf_counter()
        self._observe(len(answers), finished - begun)
        shares = _shared(answers, calls)
        now = time.time_ns() // 1000
        kept = self._log.append(
            [
                Answered(
                    family=self.model.family,
                    version=self.model.version,
                    role=call.role,
                    request_id=call.request_id,
                    answered_at=now,
                    caller=call.caller,
                    source=call.source,
                    seconds=finished - call.begun,
                    as_of=call.as_of,
                    entity=call.entity,
                    numbers=call.inputs.numbers,
                    categories=call.inputs.categories,
                    answers=share,
                    feature_versions=call.feature_versions,
                    warnings=call.warnings,
                )
                for call, share in zip(calls, shares, strict=True)
            ]
        )
        return [Reply(share, kept) for share in shares]


def _batches(
    waiting: Sequence[tuple[Call, "asyncio.Future[Reply]"]],
) -> "list[list[tuple[Call, asyncio.Future[Reply]]]]":
    """Put calls together in their order, up to `MOST_ROWS`."""
    batches: list[list[tuple[Call, asyncio.Future[Reply]]]] = []
    rows = MOST_ROWS
    for each in waiting:
        if each[1].cancelled():
            continue
        size = len(each[0].inputs)
        if rows + size > MOST_ROWS:
            batches.append([])
            rows = 0
        batches[-1].append(each)
        rows += size
    return batches


def _shared(answers: NDArray[np.float64], calls: Sequence[Call]) -> list[NDArray[np.float64]]:
    """Give each call the answers to its rows."""
    shares, first = [], 0
    for call in calls:
        last = first + len(call.inputs)
        shares.append(answers[first:last])
        first = last
    return shares


def _outcome(
    done: "asyncio.Future[list[Reply | Exception]]", calls: int
) -> "list[Reply | Exception]":
    error = done.exception()
    if error is None:
        return done.result()
    return [error if isinstance(error, Exception) else RuntimeError(repr(error))] * calls


def _hand_out(
    futures: "Sequence[asyncio.Future[Reply]]", replies: "Sequence[Reply | Exception]"
) -> None:
    for future, reply in zip(futures, replies, strict=True):
        if future.done():  # its caller has gone
            continue
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)
