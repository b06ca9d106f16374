"""The declaration of a search for a candidate's parameters: what a user writes under `search:`.

Here is only what is declared. How it is searched is in `mlops_assets.training.tuning`.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from mlops_assets.declaration import Declared, Problem, constraint


class _Range(Declared):
    """What an integer and a float range share: `low` below `high`, and no logarithm of nothing."""

    low: float
    high: float
    log: bool = False

    @constraint
    def _in_order(self) -> Iterator[Problem]:
        if not self.low < self.high:
            yield Problem(("low",), f"{self.low} must be less than high {self.high}.")

    @constraint
    def _has_a_logarithm(self) -> Iterator[Problem]:
        if self.log and self.low <= 0:
            yield Problem(("log",), f"needs low above 0, not {self.low}.")


class IntRange(_Range):
    """Whole numbers from `low` to `high`, both included.

    Attributes
    ----------
    kind
        `int`.
    low, high
        Ends of the range.
    log
        Whether to search orders of magnitude evenly.
    step
        Distance between values; not together with `log`.
    """

    kind: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1)

    @constraint
    def _step_or_log(self) -> Iterator[Problem]:
        if self.log and self.step != 1:
            yield Problem(("step",), f"{self.step} and log exclude each other; leave one out.")


class FloatRange(_Range):
    """Real numbers from `low` to `high`.

    Attributes
    ----------
    kind
        `float`.
    low, high
        Ends of the range.
    log
        Whether to search orders of magnitude evenly.
    """

    kind: Literal["float"]


class Choices(Declared):
    """A few values without an order.

    Attributes
    ----------
    kind
        `categorical`.
    choices
        The values.
    """

    kind: Literal["categorical"]
    choices: tuple[str | bool | int | float | None, ...] = Field(min_length=1)


SearchRange = Annotated[IntRange | FloatRange | Choices, Field(discriminator="kind")]


class SearchDeclaration(Declared):
    """How the parameters of a candidate are searched, on train and validation alone.

    Attributes
    ----------
    space
        Parameter to the values it may take.
    trials
        Most trials there are, over all resumptions. The first one is the declared `parameters`.
    timeout
        Most time one call of the search takes, as an ISO 8601 duration such as `PT30M`.
    trial_timeout
        Most time a trial takes; one that takes longer counts as failed.
    workers
        Processes that try at the same time; the deployment's threads are divided among them.
    train_share
        Share of the training days that a trial learns from; they are drawn by the seed.
    metric
        What is optimised on validation. Default: the task's loss.
    """

    space: dict[str, SearchRange] = Field(min_length=1)
    trials: int = Field(default=40, ge=1, le=10_000)
    timeout: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    trial_timeout: timedelta = Field(default=timedelta(minutes=15), gt=timedelta(0))
    workers: int = Field(default=1, ge=1, le=64)
    train_share: float = Field(default=1.0, gt=0, le=1)
    metric: str | None = None
