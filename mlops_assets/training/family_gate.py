"""The declaration of who may serve: what a user writes under `gate:`.

Here is only what is declared. How it is decided is in `mlops_assets.registry.gate`.
"""

from pydantic import Field

from mlops_assets.declaration import Declared
from mlops_assets.training.family_fields import Identifier


class BaselineDeclaration(Declared):
    """The trivial model that a first champion must beat: the label's rate in training.

    Attributes
    ----------
    by
        Categorical features; the rate is then each group's own. Default: one rate for all.
    smoothing
        Rows' worth of the overall rate mixed into each group's.
    """

    by: tuple[Identifier, ...] = ()
    smoothing: float = Field(default=50.0, ge=0)


class NonInferiorityDeclaration(Declared):
    """How much worse a challenger may be on a slice.

    Attributes
    ----------
    margin
        In the primary metric: on each slice the interval of the gain must lie above minus this.
    columns
        Slices to look at. Default: all of the family's.
    """

    margin: float = Field(default=0.02, ge=0)
    columns: tuple[Identifier, ...] = ()


class GateDeclaration(Declared):
    """When a challenger becomes champion.

    Attributes
    ----------
    minimum_gain
        The whole interval of the gain in the primary metric must lie above this.
    confidence
        Level of every interval, such as 0.95.
    draws
        Bootstrap draws.
    max_calibration_error
        Highest expected calibration error that may serve; default: no limit.
    max_latency_ms
        Longest a single prediction may take, in milliseconds, at the 95th percentile; default: no
        limit.
    slices
        How much worse the challenger may be on a slice. Default: slices do not decide.
    baseline
        What the first champion must beat.
    """

    minimum_gain: float = Field(default=0.0, ge=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    draws: int = Field(default=2000, ge=200, le=100_000)
    max_calibration_error: float | None = Field(default=None, gt=0, le=1)
    max_latency_ms: float | None = Field(default=None, gt=0)
    slices: NonInferiorityDeclaration | None = None
    baseline: BaselineDeclaration = BaselineDeclaration()
