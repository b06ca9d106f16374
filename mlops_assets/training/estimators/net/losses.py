"""What the net minimises for each task, and how its raw outputs stand to the label."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mlops_assets.training.tasks import Multiclass, Regression, Task


@dataclass(frozen=True)
class LabelScale:
    """From the network's outputs to the label's unit: `centre + unit * output`.

    Attributes
    ----------
    centre, unit
        Mean and standard deviation of a number in training; 0 and 1 for classes.
    """

    centre: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, task: Task, label: NDArray[np.float64]) -> Self:
        """Take the scale from training labels; a constant label keeps its unit."""
        if not isinstance(task, Regression):
            return cls()
        return cls(float(label.mean()), float(label.std()) or 1.0)


def label_tensor(task: Task, scale: LabelScale, label: NDArray[np.float64]) -> Tensor:
    """Return labels as the loss takes them: class positions as int64, all else as float32."""
    if isinstance(task, Multiclass):
        return torch.from_numpy(label.astype(np.int64))
    return torch.from_numpy(((label - scale.centre) / scale.unit).astype(np.float32))


def loss_of(task: Task, scale: LabelScale) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the task's loss, in the label's unit.

    Parameters
    ----------
    task
        Cross-entropy for classes; the pinball loss, averaged over the quantiles, for a number
        (Koenker & Bassett 1978, Econometrica 46).
    scale
        Of the label.

    Returns
    -------
    Callable
        From raw outputs, shape (..., outputs), and labels, shape (...,), to the mean loss.
    """
    if isinstance(task, Regression):
        levels = task.quantiles

        def pinball(outputs: Tensor, label: Tensor) -> Tensor:
            above = label[..., None] - rising(outputs)
            level = torch.tensor(levels, dtype=above.dtype, device=above.device)
            return scale.unit * torch.maximum(level * above, (level - 1) * above).mean()

        return pinball
    if isinstance(task, Multiclass):

        def cross_entropy(outputs: Tensor, label: Tensor) -> Tensor:
            return functional.cross_entropy(outputs.flatten(0, -2), label.flatten())

        return cross_entropy

    def binary_cross_entropy(outputs: Tensor, label: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs[..., 0], label)

    return binary_cross_entropy


def rising(outputs: Tensor) -> Tensor:
    """Turn raw outputs into quantiles that cannot cross.

    The middle output is the middle quantile; every other one is the softplus of how far its
    quantile lies beyond its neighbour towards the middle.

    Parameters
    ----------
    outputs
        Shape (..., quantiles), an odd number of them.
    """
    middle = outputs.shape[-1] // 2
    if not middle:
        return outputs
    steps = functional.softplus(outputs)
    centre = outputs[..., middle : middle + 1]
    below = steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
    above = steps[..., middle + 1 :].cumsum(-1)
    return torch.cat([centre - below, centre, centre + above], dim=-1)
