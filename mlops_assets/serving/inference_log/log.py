"""`InferenceLog`: where a worker writes what it answers, before the answer leaves.

One of these per process. When `append` returns, its records are the kernel's: the death of the
process loses none. A thread syncs the file within the stated bound, so that not even the loss of
power loses more than that, and begins a new segment when one is large or old enough. So `append`
is one write; it never opens, syncs or closes a file.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from mlops_assets.serving.inference_log.answered import Answered, LoggedModel
from mlops_assets.serving.inference_log.errors import (
    InferenceLogError,
    LogFullError,
    NotDeclaredError,
)
from mlops_assets.serving.inference_log.events import Event, EventKind
from mlops_assets.serving.inference_log.frames import framed
from mlops_assets.serving.inference_log.records import declaration, encode, happened, prediction
from mlops_assets.serving.inference_log.segments import SegmentWriter, new_stream
from mlops_assets.serving.inference_log.trouble import Trouble
from mlops_assets.settings import WhenLogFull as WhenFull

_log = logging.getLogger(__name__)

RESERVED_FAMILY = "events"
"""No family can have this name: the table ``inference/events`` is taken."""

_RETRY_AFTER_S = 1.0
_MOST_HELD_EVENTS = 1000


class Kept(Enum):
    """What became of answers given to `InferenceLog.append`."""

    logged = "logged"
    missed = "missed"


@dataclass(frozen=True)
class LogStatus:
    """How the log of a process is doing.

    Attributes
    ----------
    full
        Whether the last attempt to write failed.
    logged, missed
        Rows of answers since the log was opened: in it, and answered without being in it.
    unsynced_seconds
        How long the oldest record that the loss of power would lose has been there.
    """

    full: bool
    logged: int
    missed: int
    unsynced_seconds: float


@dataclass(frozen=True, slots=True)
class _Declared:
    """What `append` checks an answer against, and the frame that describes the model."""

    numeric: int
    categorical: int
    outputs: int
    entity: frozenset[str]
    frame: bytes


class InferenceLog:
    """The log of one process. Thread-safe.

    Parameters
    ----------
    folder
        The log's folder, on a local disk; shared by all processes of the server.
    sync_seconds
        How long a record may wait until it survives the loss of power.
    segment_bytes, segment_seconds
        A segment is finished, and can be shipped, at this size, or this long after its first
        record; looked at every ``sync_seconds``.
    when_full
        What to do while nothing can be written: the disk is full, a quota is used up, or the device
        fails.

    Raises
    ------
    InferenceLogError
        When the folder cannot be written.

    Examples
    --------
    >>> with InferenceLog(settings.serve_log_folder) as log:
    ...     log.declare("flight_delay", 3, LoggedModel(schema, ("probability",), entity))
    ...     log.append([answered])
    """

    def __init__(
        self,
        folder: Path,
        *,
        sync_seconds: float = 0.2,
        segment_bytes: int = 16 << 20,
        segment_seconds: float = 5.0,
        when_full: WhenFull = WhenFull.refuse,
    ) -> None:
        self.folder = folder
        self.when_full = when_full
        self._sync_seconds = sync_seconds
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._models: dict[tuple[str, int], _Declared] = {}
        self._lock = threading.Lock()
        self._stream, self._segments, self._events = new_stream(), 0, 0
        self._held: list[bytes] = []  # frames of events that could not be written yet
        self._trouble: Trouble | None = None
        self._logged = self._missed = 0
        self._unsynced_since: float | None = None
        self._syncing_since: float | None = None
        self._unusable = ""
        try:
            self._segment = self._next_segment()
        except OSError as error:
            raise InferenceLogError(
                f"The inference log cannot be written in {folder}: {error}. Free space there or "
                "make the folder writable, or set MLOPS_SERVE_LOG_FOLDER to another local folder."
            ) from error
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="inference-log", daemon=True)
        self._keeper.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def declare(self, family: str, version: int, model: LoggedModel) -> None:
        """Say what a model's predictions consist of; needed before the first of them.

        Raises
        ------
        NotDeclaredError
            When the family has the name of another table of the log.
        """
        if family == RESERVED_FAMILY:
            raise NotDeclaredError(
                f"A family cannot be named {family!r}: the table inference/{family} holds the "
                "events of serving. Choose another name."
            )
        self._models[family, version] = _Declared(
            numeric=len(model.schema.numeric),
            categorical=len(model.schema.categorical),
            outputs=len(model.outputs),
            entity=frozenset(model.entity.names),
            frame=framed(encode(declaration(family, version, model))),
        )

    def append(self, answered: Sequence[Answered]) -> Kept:
        """Write answers, in one write, before they leave.

        Returns
        -------
        Kept
            `missed` where nothing can be written and the policy is `WhenFull.serve`. Such answers
            are counted, and the log says so when it can be written again.

        Raises
        ------
        LogFullError
            When nothing can be written and the policy is `WhenFull.refuse`: answer 503.
        NotDeclaredError
            When an answer does not fit its model as it was declared. None is written then.
        InferenceLogError
            When the log is closed, or the thread that syncs it has died.
        """
        models = {}
        frames = []
        rows = 0
        for one in answered:
            models[one.family, one.version] = self._model_of(one)
            rows += len(one.answers)
            frames.append(framed(encode(prediction(one))))
        with self._lock:
            described = self._segment.declared
            if not described.issuperset(models):
                frames[:0] = [model.frame for key, model in models.items() if key not in described]
            try:
                self._write(frames)
            except OSError as error:
                trouble = self._in_trouble(error)
                if self.when_full is WhenFull.serve:
                    self._missed += trouble.missed(answered)
                    return Kept.missed
                raise LogFullError(
                    f"The answer is refused, because it cannot be logged in {self.folder} "
                    f"({error}). Free space there; it works again by itself.",
                    retry_after=_RETRY_AFTER_S,
                ) from error
            described.update(models)
            self._logged += rows
        return Kept.logged

    def report(self, event: Event) -> None:
        """Write an event. While nothing can be written it is held, and written afterwards.

        Raises
        ------
        InferenceLogError
            When the log is closed, or the thread that syncs it has died.
        """
        with self._lock:
            self._hold(event)
            try:
                self._write([])
            except OSError as error:
                self._in_trouble(error)

    def status(self) -> LogStatus:
        """Return how the log is doing."""
        with self._lock:
            since = self._syncing_since or self._unsynced_since
            return LogStatus(
                full=self._trouble is not None,
                logged=self._logged,
                missed=self._missed,
                unsynced_seconds=0.0 if since is None else time.monotonic() - since,
            )

    def close(self) -> None:
        """Sync, and let the last segment be shipped. Nothing can be written afterwards."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._keeper.join()
        with self._lock:
            try:
                try:
                    if not self._unusable:
                        self._write([])
                finally:
                    self._segment.close()
            except OSError as error:
                # With a full disk there is nowhere else to say it.
                _log.error(
                    "The inference log in %s was closed while it could not be written (%s): %d "
                    "predictions were answered and are not logged; %d events are lost.",
                    self.folder, error, self._missed, len(self._held),
                )  # fmt: skip
            self._unusable = "is closed"

    # What follows needs the lock.

    def _write(self, frames: list[bytes]) -> None:
        """Write what was held and then ``frames``; all of it, or nothing.

        Raises
        ------
        OSError
            When nothing could be written.
        """
        if self._unusable:
            raise InferenceLogError(f"The inference log in {self.folder} {self._unusable}.")
        trouble = self._trouble
        if trouble is not None:
            ended = [self._frame(event) for event in trouble.ended(_now())]
            frames = [*self._held, *ended, *frames]
        elif self._held:
            frames = [*self._held, *frames]
        if not frames:
            return
        self._segment.write(b"".join(frames))
        self._held.clear()
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        if trouble is not None:
            self._trouble = None
            rows = sum(gap.rows for gap in trouble.gaps.values())
            _log.warning(
                "The inference log in %s can be written again. Answered meanwhile and not logged: "
                "%d predictions.", self.folder, rows,
            )  # fmt: skip

    def _in_trouble(self, error: OSError) -> Trouble:
        """Note that nothing can be written, and say so where it is news."""
        if self._trouble is None:
            self._trouble = Trouble(since=_now())
            consequence = (
                "answers are refused"
                if self.when_full is WhenFull.refuse
                else "answers leave without being logged, and are counted"
            )
            message = (
                f"The inference log in {self.folder} cannot be written ({error}); {consequence} "
                "until there is space again"
            )
            _log.error(message)
            self._hold(Event(EventKind.log_full, message))
        return self._trouble

    def _hold(self, event: Event) -> None:
        if len(self._held) < _MOST_HELD_EVENTS:
            self._held.append(self._frame(event))
        else:
            _log.error("Too many events wait for the inference log; lost: %s", event.message)

    def _frame(self, event: Event) -> bytes:
        self._events += 1
        return framed(encode(happened(event, f"{self._stream}-{self._events}", _now())))

    def _next_segment(self) -> SegmentWriter:
        segment = SegmentWriter(self.folder, self._stream, self._segments)
        self._segments += 1
        return segment

    # What the thread does.

    def _keep(self) -> None:
        try:
            while not self._closing.wait(self._sync_seconds):
                self._sync()
        except BaseException as error:
            # Without this thread the bound would be broken unseen: `append` must refuse.
            self._unusable = f"is not synced any more, its thread has died of {error!r}"
            raise

    def _sync(self) -> None:
        with self._lock:
            segment = self._segment
            if self._trouble is not None:
                self._try_again()
            self._syncing_since = self._syncing_since or self._unsynced_since
            self._unsynced_since = None
        try:
            if self._syncing_since is not None:
                segment.sync()
            self._syncing_since = None
            if self._is_due(segment):
                self._replace(segment)
        except OSError as error:  # what was to be synced is tried again, and counts as unsynced
            with self._lock:
                self._in_trouble(error)

    def _try_again(self) -> None:
        """Write what is held, so that it is known when there is space although nobody asks."""
        try:
            self._write([])
        except OSError as error:
            self._in_trouble(error)

    def _is_due(self, segment: SegmentWriter) -> bool:
        since = segment.first_write
        is_old = since is not None and time.monotonic() - since >= self._segment_seconds
        return is_old or segment.size >= self._segment_bytes or segment.is_removed

    def _replace(self, segment: SegmentWriter) -> None:
        """Have writers use a new segment, then finish the old one."""
        try:
            fresh = self._next_segment()
        except OSError as error:  # the old one may still have room; if not, `append` will notice
            _log.warning("No new segment of the inference log can be begun: %s", error)
            return
        with self._lock:
            self._segment = fresh
        if segment.is_removed:
            self.report(
                Event(
                    EventKind.log_damaged,
                    f"{segment.path} was deleted while it was written; its predictions are lost",
                )
            )
        segment.close()

    def _model_of(self, one: Answered) -> _Declared:
        """Return the model of an answer that fits it."""
        model = self._models.get((one.family, one.version))
        if model is None:
            raise NotDeclaredError(
                f"{one.family}/{one.version} was not declared to the inference log; call declare "
                "when a model is loaded."
            )
        rows = len(one.answers)
        if (
            one.numbers.shape != (rows, model.numeric)
            or one.numbers.dtype.char != "f"
            or one.answers.dtype.char != "d"
            or one.answers.size != rows * model.outputs
            or len(one.categories) != model.categorical
            or any(len(values) != rows for values in one.categories)
            or any(len(values) != rows for values in one.entity.values())
            or not model.entity.issuperset(one.entity)
            or (one.as_of is not None and len(one.as_of) != rows)
        ):
            raise NotDeclaredError(_misfit(one, model))
        return model


def _misfit(one: Answered, model: _Declared) -> str:
    lengths = {name: len(values) for name, values in one.entity.items()}
    return (
        f"Request {one.request_id}: {len(one.answers)} answers of {one.family}/{one.version} do "
        f"not fit its declaration. Given: numbers {one.numbers.dtype}{list(one.numbers.shape)}, "
        f"answers {one.answers.dtype}{list(one.answers.shape)}, categories of lengths "
        f"{[len(values) for values in one.categories]}, entity {lengths}, as_of of length "
        f"{None if one.as_of is None else len(one.as_of)}. Expected: float32 numbers with "
        f"{model.numeric} columns, float64 answers with {model.outputs}, {model.categorical} "
        f"categorical features, entity columns among {sorted(model.entity)}, all of one length."
    )


def _now() -> int:
    return time.time_ns() // 1000
