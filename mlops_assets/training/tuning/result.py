"""What a search found: its trials, the best of them, and what mattered."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from mlops_assets.training.family_search import SearchRange

if TYPE_CHECKING:
    import pyarrow as pa


class TuningError(RuntimeError):
    """A search cannot run, or found nothing; the message says why and what to do."""


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """How a trial went.

    Attributes
    ----------
    state, value, seconds, iterations, loss, reason
        As in `TrialRecord`.
    interrupted
        Whether nothing can be said of its parameters, because the search ended before it did.
    """

    state: TrialState
    value: float | None = None
    seconds: float | None = None
    iterations: int | None = None
    loss: float | None = None
    reason: str = ""
    interrupted: bool = False


@dataclass(frozen=True)
class TrialRecord:
    """One trial that has ended.

    Attributes
    ----------
    number
        Its place in the study, from 0.
    state
        How it ended.
    value
        The metric on validation, of the best iteration; None unless complete.
    parameters
        Its values of the searched parameters. The trial of the declared parameters has those that
        the algorithm reports and that lie in the space.
    declared
        Whether it tried the candidate's declared parameters, unchanged.
    seconds
        Wall-clock time of the fit and its scoring; None where it was killed with the search.
    iterations
        Iterations kept by a complete trial, or reached by one that was stopped; None for an
        algorithm without iterations.
    loss
        Lowest validation loss it reported while it ran; None for an algorithm without iterations.
    reason
        Why it was pruned or failed; empty when complete.
    started_at
        In UTC.
    """

    number: int
    state: TrialState
    value: float | None
    parameters: Mapping[str, Any]
    declared: bool
    seconds: float | None
    iterations: int | None
    loss: float | None
    reason: str
    started_at: datetime


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    study
        Name of the study, unique to what was searched on what.
    family, candidate
        Whose.
    metric, metric_title, greater_is_better
        What was optimised on validation, its name for people, and in which direction.
    metric_is_loss
        Whether that is the loss which iterations report.
    space
        What was searched, as declared.
    trials
        All that ended, also those of earlier calls, by number.
    resumed
        How many of them had ended before this call.
    best
        The best complete trial; the earliest of equals.
    best_parameters
        Everything to fit the algorithm with: the declared parameters with the best trial's.
    importance
        Share of each searched parameter in how good a trial is, largest first, by PED-ANOVA
        (Watanabe, Bansal & Hutter 2023, IJCAI). Empty while there are too few complete trials.
    ended_by
        `trials` when the declared number was reached, `timeout` when time was up before.
    seconds
        Wall-clock time of this call.
    seed, threads, workers
        Threads are those of one worker. With one worker, the same seed and threads give the same
        trials.
    train_rows, validation_rows
        What a trial learnt from and was scored on.
    """

    study: str
    family: str
    candidate: str
    metric: str
    metric_title: str
    greater_is_better: bool
    metric_is_loss: bool
    space: Mapping[str, SearchRange]
    trials: tuple[TrialRecord, ...]
    resumed: int
    best: TrialRecord
    best_parameters: Mapping[str, Any]
    importance: Mapping[str, float]
    ended_by: Literal["trials", "timeout"]
    seconds: float
    seed: int
    threads: int
    workers: int
    train_rows: int
    validation_rows: int

    @property
    def best_value(self) -> float:
        """The metric of the best trial on validation."""
        assert self.best.value is not None  # noqa: S101 - the best trial is complete by definition
        return self.best.value

    @property
    def declared_value(self) -> float | None:
        """The metric of the declared parameters; None where that trial failed."""
        return next(
            (trial.value for trial in self.trials if trial.declared and trial.value is not None),
            None,
        )

    @property
    def counts(self) -> Mapping[TrialState, int]:
        """How many trials ended in each way."""
        return {state: sum(t.state is state for t in self.trials) for state in TrialState}


def best_trial(trials: tuple[TrialRecord, ...], *, greater_is_better: bool) -> TrialRecord | None:
    """Return the best complete trial, the earliest of equals; None where none is complete."""
    sign = -1.0 if greater_is_better else 1.0
    complete = [(sign * t.value, t.number, t) for t in trials if t.value is not None]
    return min(complete, key=lambda entry: entry[:2])[2] if complete else None


_COLUMNS: Mapping[str, tuple[str, str]] = {
    "study": ("string", "Name of the study: family, candidate, training-set version, hash."),
    "family": ("string", "Model family."),
    "candidate": ("string", "Candidate whose parameters were searched."),
    "trial": ("int32", "Place of the trial in its study, from 0."),
    "state": ("string", "How it ended: complete, pruned or failed."),
    "metric": ("string", "Metric that was optimised on the validation part."),
    "value": ("float64", "That metric, of the best iteration; null unless complete."),
    "best": ("bool", "Whether it is the best trial of the study so far."),
    "declared": ("bool", "Whether it tried the candidate's declared parameters, unchanged."),
    "parameters": ("string", "Values of the searched parameters, as a JSON object."),
    "iterations": ("int32", "Iterations kept or reached; null for an algorithm without them."),
    "validation_loss": ("float64", "Lowest validation loss reported while it ran."),
    "seconds": ("float64", "Wall-clock seconds of fitting and scoring; null where killed."),
    "reason": ("string", "Why it was pruned or failed; null when complete."),
    "started_at": ("timestamp", "When it began, in UTC."),
}


def trials_table(result: SearchResult) -> "pa.Table":
    """Return a search's trials as a table, one row a trial, every column with its description."""
    import pyarrow as pa

    types = {
        "string": pa.string(), "int32": pa.int32(), "float64": pa.float64(), "bool": pa.bool_(),
        "timestamp": pa.timestamp("us", "UTC"),
    }  # fmt: skip
    schema = pa.schema(
        [
            pa.field(name, types[kind], metadata={"comment": comment})
            for name, (kind, comment) in _COLUMNS.items()
        ]
    )
    rows = [
        {
            "study": result.study,
            "family": result.family,
            "candidate": result.candidate,
            "trial": trial.number,
            "state": trial.state.value,
            "metric": result.metric,
            "value": trial.value,
            "best": trial.number == result.best.number,
            "declared": trial.declared,
            "parameters": json.dumps(dict(trial.parameters), sort_keys=True),
            "iterations": trial.iterations,
            "validation_loss": trial.loss,
            "seconds": trial.seconds,
            "reason": trial.reason or None,
            "started_at": trial.started_at,
        }
        for trial in result.trials
    ]
    return pa.Table.from_pylist(rows, schema=schema)
