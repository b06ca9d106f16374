"""What a search and its worker processes say to each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Setup:
    """To a worker, once: what every trial has in common.

    Attributes
    ----------
    parts
        File with the train and validation part, as `write_shared` made it.
    algorithm
        Short name or import path.
    metric
        Name of the task's metric that scores a trial.
    seed, threads
        Of every fit.
    searched
        Names of the parameters of the space.
    """

    parts: Path
    algorithm: str
    metric: str
    seed: int
    threads: int
    searched: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """To a worker: fit with these parameters."""

    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Begun:
    """From a worker: it has started, has the data, and now fits."""


@dataclass(frozen=True)
class Report:
    """From a worker in the middle of a fit, which waits for the answer: True to go on.

    Attributes
    ----------
    iteration, total
        The iteration done, and the most there can be.
    loss
        On validation.
    """

    iteration: int
    total: int
    loss: float


@dataclass(frozen=True)
class Scored:
    """From a worker: the fit ended.

    Attributes
    ----------
    value
        The metric on validation.
    iterations
        How many were kept; None for an algorithm without iterations.
    parameters
        What the searched parameters were, as far as the fitted model knows.
    """

    value: float
    iterations: int | None
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Stopped:
    """From a worker: the fit ended early, because a report was answered with False."""


@dataclass(frozen=True)
class Crashed:
    """From a worker, which lives on: the fit raised an error."""

    reason: str


Reply = Begun | Report | Scored | Stopped | Crashed
