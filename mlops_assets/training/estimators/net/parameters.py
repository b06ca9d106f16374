"""What can be chosen about the net, with bounds and defaults."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops_assets.features.errors import nearest
from mlops_assets.training.estimators.protocol import EstimatorError


class NetParameters(BaseModel):
    """Parameters of the net; names are those of the `tabm` package where it has them.

    The defaults are sized for a CPU: some hundred thousand rows of a hundred features take a few
    minutes on two cores. On a GPU, `k: 32`, `d_block: 512` and `d_embedding: 16` are usual.

    Attributes
    ----------
    k
        Members of the ensemble inside the net.
    n_blocks, d_block
        Hidden layers, and units in each.
    dropout
        Share of hidden units left out at each step.
    d_embedding, n_bins
        Size of a number's embedding, and pieces of its piecewise-linear encoding.
    min_category_rows
        A category with fewer training rows counts as unseen, so that "unseen" is learnt.
    learning_rate, weight_decay
        Of AdamW.
    batch_size
        Rows of a step. Where it is not given, 512, or fewer where there are so few rows that a pass
        over them would have under 64 steps, but no fewer than 32.
    epochs, patience
        Most passes over the data, and passes without improvement on validation before it stops.
    averaging
        Decay of the running mean of the weights, which is what is kept; 0 keeps the weights.
    device
        `auto` trains on a GPU where there is one. Answers are always computed on the CPU, so that
        they do not depend on the machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: int = Field(8, ge=1, le=256)
    n_blocks: int = Field(2, ge=1, le=16)
    d_block: int = Field(128, ge=1, le=4096)
    dropout: float = Field(0.1, ge=0, lt=1)
    d_embedding: int = Field(4, ge=1, le=256)
    n_bins: int = Field(16, ge=2, le=256)
    min_category_rows: int = Field(10, ge=1)
    learning_rate: float = Field(0.002, gt=0, le=1)
    weight_decay: float = Field(0.001, ge=0)
    batch_size: int | None = Field(None, ge=1)
    epochs: int = Field(50, ge=1)
    patience: int = Field(2, ge=1)
    averaging: float = Field(0.995, ge=0, lt=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Check declared parameters.

        Raises
        ------
        EstimatorError
            Naming the parameter, its value and what is allowed, or the nearest name.
        """
        if unknown := [name for name in parameters if name not in cls.model_fields]:
            raise EstimatorError(
                f"net takes no parameter {unknown[0]!r}; {nearest(unknown[0], cls.model_fields)}"
            )
        try:
            return cls.model_validate(dict(parameters))
        except ValidationError as error:
            wrong = error.errors()[0]
            raise EstimatorError(
                f"net parameter {wrong['loc'][0]}: {wrong['input']!r} is wrong: {wrong['msg']}"
            ) from error

    def batch_size_for(self, rows: int) -> int:
        """Return the batch size for a number of training rows."""
        return self.batch_size or max(32, min(512, rows // 64))


DEFAULTS: Mapping[str, Any] = NetParameters().model_dump()
"""Used where the declaration says nothing."""
