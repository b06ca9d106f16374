"""Splitting the net's raw output into what each feature adds: DeepSHAP.

DeepLIFT's rescale rule (Shrikumar, Greenside & Kundaje 2017, ICML) against each row of a background
sample, averaged over the sample (Lundberg & Lee 2017, NeurIPS; Chen, Lundberg & Lee 2022, Nature
Communications 13, 4512): SHAP values that are approximate in how they share out interactions, and
exact in their sum. Each difference between a row and a background row passes backwards through the
layers; a linear layer passes it by its weights, a rectifier by the slope between its two inputs, so
nothing is lost on the way. It stops at the embedding, where every column belongs to one feature.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from mlops_assets.training.estimators.net.architecture import Network

_PAIRS = 2048  # pairs of row and background row at once
_SAME = 1e-12  # inputs of a rectifier nearer than this have the slope of either


class _Rescale(torch.autograd.Function):
    """A rectifier whose gradient is the slope between a row (first half) and its reference."""

    @staticmethod
    def forward(ctx: Any, given: Tensor) -> Tensor:
        ctx.save_for_backward(given)
        return torch.relu(given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (given,) = ctx.saved_tensors
        row, reference = given.chunk(2)
        apart = row - reference
        slope = torch.where(
            apart.abs() > _SAME,
            (torch.relu(row) - torch.relu(reference)) / apart,
            (row > 0).to(row.dtype),
        )
        return gradients[0] * torch.cat([slope, slope])


def contributions(
    network: Network,
    rows: tuple[Tensor, Tensor],
    background: tuple[Tensor, Tensor],
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """Split each row's score into what each feature adds to the mean score of the background.

    Parameters
    ----------
    network
        The fitted net.
    rows, background
        As `Rows` gives them.
    weights
        A row's score is the sum of the raw outputs, averaged over the members, by these weights;
        shape (rows, outputs), float64.

    Returns
    -------
    tuple
        Contributions, shape (rows, features), numbers before categories; and the mean score of the
        background with each row's weights, shape (rows,). In float64.
    """
    precise = deepcopy(network).double().requires_grad_(requires_grad=False)
    owners = precise.embedding.owners
    features = int(owners.max()) + 1
    with torch.no_grad():
        embedded, references = precise.embedding(*rows), precise.embedding(*background)
    count = len(references)
    added = [torch.zeros(0, features, dtype=torch.float64)]
    expected = [torch.zeros(0, dtype=torch.float64)]
    rows_at_once = max(1, _PAIRS // count)
    for start in range(0, len(embedded), rows_at_once):
        some, weight = (each[start : start + rows_at_once] for each in (embedded, weights))
        row, reference = some.repeat_interleave(count, 0), references.repeat(len(some), 1)
        pairs = torch.cat([row, reference]).requires_grad_()
        outputs = precise.members(pairs, _Rescale.apply).mean(dim=1)
        scores = (outputs * weight.repeat_interleave(count, 0).repeat(2, 1)).sum(dim=1)
        (multipliers,) = torch.autograd.grad(scores[: len(row)].sum(), pairs)
        columns = (multipliers[: len(row)] * (row - reference)).view(len(some), count, -1).mean(1)
        added.append(torch.zeros(len(some), features).double().index_add_(1, owners, columns))
        expected.append(scores[len(row) :].detach().view(len(some), count).mean(1))
    return torch.cat(added), torch.cat(expected)
