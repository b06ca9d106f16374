"""The network: scaled and embedded features, then TabM's ensemble of perceptrons.

TabM is Gorishniy, Kotelnikov & Babenko 2025 (ICLR), the layers are those of its package `tabm`; the
piecewise-linear embeddings are Gorishniy, Rubachev & Babenko 2022 (NeurIPS), of the package
`rtdl_num_embeddings`. The members' raw outputs are averaged, so that the net's raw output is linear
in them.
"""

from collections.abc import Callable

import torch
from rtdl_num_embeddings import (  # type: ignore[import-untyped]  # has no types
    PiecewiseLinearEmbeddings,
)
from tabm import LinearBatchEnsemble, LinearEnsemble  # type: ignore[import-untyped]  # has no types
from torch import Tensor, nn

from mlops_assets.training.estimators.net.parameters import NetParameters
from mlops_assets.training.estimators.net.rows import NumberScales

Activation = Callable[[Tensor], Tensor]

_WIDEST_CATEGORY = 16
_CATEGORY_SPREAD = 0.3  # standard deviation of category embeddings at the start


class Embedding(nn.Module):
    """From raw features to one row of numbers, in which each feature has columns of its own.

    A number gives its embedding and, where training had nulls, an indicator of null; a category
    gives its embedding, which starts at zero for the unseen one.

    Parameters
    ----------
    scales
        Of the numbers.
    categories
        Positions of each categorical feature.
    d_embedding
        Columns of a number's embedding.
    """

    edges: Tensor
    scores: Tensor
    nullable: Tensor

    def __init__(self, scales: NumberScales, categories: tuple[int, ...], d_embedding: int) -> None:
        super().__init__()
        self.register_buffer("edges", scales.edges)
        self.register_buffer("scores", scales.scores)
        self.register_buffer("nullable", scales.nullable)
        numbers = len(scales.bins)
        self.numbers = (
            PiecewiseLinearEmbeddings(list(scales.bins), d_embedding, activation=False, version="B")
            if numbers
            else None
        )
        widths = [min(_WIDEST_CATEGORY, round(1.6 * size**0.56)) for size in categories]
        tables = [nn.Embedding(size, width) for size, width in zip(categories, widths, strict=True)]
        for table in tables:
            nn.init.normal_(table.weight, std=_CATEGORY_SPREAD)
            nn.init.zeros_(table.weight[0])
        self.categories = nn.ModuleList(tables)
        nulls = len(scales.nullable)
        self.chunks = [d_embedding] * numbers + [1] * nulls + widths
        owners = [*range(numbers), *scales.nullable.tolist()]
        owners += range(numbers, numbers + len(widths))
        self.owners = torch.repeat_interleave(torch.tensor(owners), torch.tensor(self.chunks))
        """Which feature each column belongs to, numbers before categories."""

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Embed rows, giving shape (rows, columns)."""
        columns: list[Tensor] = []
        if self.numbers is not None:
            columns.append(self.numbers(self._scaled(numbers)).flatten(1))
            columns.append(torch.isnan(numbers[:, self.nullable]).to(self.scores.dtype))
        columns += [table(categories[:, i]) for i, table in enumerate(self.categories)]
        return torch.cat(columns, dim=1)

    def _scaled(self, numbers: Tensor) -> Tensor:
        """Map numbers to normal scores; null to 0, the middle."""
        values = numbers.T.contiguous().to(self.edges.dtype)
        last = self.edges.shape[1] - 1
        right = torch.searchsorted(self.edges, values, right=True).clamp(1, last)
        low, high = self.edges.gather(1, right - 1), self.edges.gather(1, right)
        from_, to = self.scores.gather(1, right - 1), self.scores.gather(1, right)
        way = torch.where(high > low, (values - low) / (high - low), 0.0).clamp(0.0, 1.0)
        return torch.where(torch.isnan(values), 0.0, from_ + way * (to - from_)).T.contiguous()


class Network(nn.Module):
    """The whole net, from raw features to the raw outputs of each member.

    Parameters
    ----------
    scales, categories
        As `Embedding` takes them.
    outputs
        Raw outputs of each member.
    parameters
        Sizes.
    """

    def __init__(
        self,
        scales: NumberScales,
        categories: tuple[int, ...],
        outputs: int,
        parameters: NetParameters,
    ) -> None:
        super().__init__()
        self.embedding = Embedding(scales, categories, parameters.d_embedding)
        self.k = parameters.k
        self.dropout = parameters.dropout
        chunks = self.embedding.chunks
        widths = [sum(chunks)] + [parameters.d_block] * parameters.n_blocks
        # TabM's initialisation: members differ at the start by random scales of their input alone,
        # one for all columns of a feature.
        self.blocks = nn.ModuleList(
            LinearBatchEnsemble(
                width,
                parameters.d_block,
                k=parameters.k,
                scaling_init=("normal", "ones") if i == 0 else "ones",
                first_scaling_init_chunks=chunks if i == 0 else None,
            )
            for i, width in enumerate(widths[:-1])
        )
        self.output = LinearEnsemble(parameters.d_block, outputs, k=parameters.k)

    def forward(
        self, numbers: Tensor, categories: Tensor, dropout: torch.Generator | None = None
    ) -> Tensor:
        """Return the raw outputs of each member, shape (rows, k, outputs).

        Parameters
        ----------
        numbers, categories
            As `Rows` gives them.
        dropout
            Where it is given, hidden units are left out at random, as in training.
        """
        embedded = self.embedding(numbers, categories)
        return self.members(embedded, torch.relu, dropout)

    def members(
        self, embedded: Tensor, activation: Activation, dropout: torch.Generator | None = None
    ) -> Tensor:
        """Return the raw outputs of each member for embedded rows, with a given activation."""
        hidden = _first_layer(self.blocks[0], embedded)
        for position, block in enumerate(self.blocks):
            hidden = activation(hidden if position == 0 else block(hidden))
            if dropout is not None and self.dropout:
                # Drawn from a generator of its own: PyTorch's global one is shared with whatever
                # else trains in this process, and would make the result depend on it.
                kept = torch.empty_like(hidden).bernoulli_(1 - self.dropout, generator=dropout)
                hidden = hidden * kept.div_(1 - self.dropout)
        outputs: Tensor = self.output(hidden)
        return outputs


def _first_layer(layer: LinearBatchEnsemble, rows: Tensor) -> Tensor:
    """Apply the first layer to rows that all members share.

    The same as the layer itself, but each member's scales are multiplied into the weights and not
    into the rows: the copy of the rows for each member was most of a step's time.
    """
    weight = (layer.weight.T[:, None, :] * layer.r.T[:, :, None]).flatten(1)
    hidden = (rows @ weight).unflatten(1, (layer.k, -1))
    return torch.addcmul(layer.bias, hidden, layer.s)
