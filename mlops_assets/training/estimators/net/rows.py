"""How rows become numbers: batch by batch from a frame's columns, never as a whole matrix.

Numbers stay as they are here, NaN for null; the network scales them itself. Categories become
positions in the vocabulary of the training rows, where position 0 is every category unseen there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from mlops_assets.training.dataset import MISSING, FeatureSchema

if TYPE_CHECKING:
    import pandas as pd

_GRID = 256  # points of a number's distribution that its scaling knows
_SAMPLE = 100_000  # rows from which the points are taken
_RANKS = (0.001, 0.999)  # scaled numbers end at these quantiles of the normal distribution


@dataclass(frozen=True)
class Vocabulary:
    """The categories that training knew.

    Attributes
    ----------
    categories
        Of each categorical feature, in the order of their positions; the first has position 1.
    """

    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, features: "pd.DataFrame", schema: FeatureSchema, min_rows: int) -> Self:
        """Keep the categories that have at least `min_rows` rows."""
        found: dict[str, tuple[str, ...]] = {}
        for name in schema.categorical:
            codes, categories = _codes(features[name])
            rows = np.bincount(codes[codes >= 0], minlength=len(categories))
            found[name] = tuple(
                text for text, count in zip(categories, rows, strict=True) if count >= min_rows
            )
        return cls(found)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many positions each feature has, that of the unseen included."""
        return tuple(1 + len(categories) for categories in self.categories.values())


@dataclass(frozen=True)
class NumberScales:
    """How numbers are scaled: their own distribution in training is mapped to the normal one.

    Attributes
    ----------
    edges, scores
        Points of each number's distribution and the normal scores they map to, shape (numbers,
        points); in between it is linear, beyond the ends constant. A number with one value only
        maps to 0.
    bins
        Edges of the pieces of each number's piecewise-linear encoding, in normal scores.
    nullable
        Positions of the numbers that had nulls in training; each gets an indicator.
    """

    edges: torch.Tensor
    scores: torch.Tensor
    bins: tuple[torch.Tensor, ...]
    nullable: torch.Tensor

    @classmethod
    def of(
        cls,
        features: "pd.DataFrame",
        schema: FeatureSchema,
        n_bins: int,
        random: np.random.Generator,
    ) -> Self:
        """Take the scales from training rows, one column at a time."""
        rows, names = len(features), schema.numeric
        chosen = (
            np.sort(random.choice(rows, _SAMPLE, replace=False)) if rows > _SAMPLE else slice(None)
        )
        edges = np.zeros((len(names), _GRID), np.float32)
        scores = np.zeros((len(names), _GRID), np.float32)
        bins, nullable = [], []
        for position, name in enumerate(names):
            column = _floats(features[name])
            if np.isnan(column).any():
                nullable.append(position)
            values = column[chosen]
            at, score = _normal_scores(values[np.isfinite(values)])
            # The last point is repeated, so that all numbers have equally many.
            edges[position], scores[position] = at[-1], score[-1]
            edges[position, : len(at)], scores[position, : len(at)] = at, score
            bins.append(torch.from_numpy(_bins(score, n_bins)))
        return cls(
            torch.from_numpy(edges),
            torch.from_numpy(scores),
            tuple(bins),
            torch.tensor(nullable, dtype=torch.int64),
        )


class Rows:
    """Rows of a frame, read in batches.

    Parameters
    ----------
    features
        Has the schema's columns, in any order.
    schema, vocabulary
        Of the model.
    """

    def __init__(
        self, features: "pd.DataFrame", schema: FeatureSchema, vocabulary: Vocabulary
    ) -> None:
        self._rows = len(features)
        # Views of the frame's own columns: a batch is gathered from them when it is needed.
        self._numbers = [_floats(features[name]) for name in schema.numeric]
        self._categories = []
        for name in schema.categorical:
            codes, categories = _codes(features[name])
            known = {text: 1 + i for i, text in enumerate(vocabulary.categories[name])}
            # The code of null is -1, which finds the last entry.
            positions = [*(known.get(text, 0) for text in categories), known.get(MISSING, 0)]
            self._categories.append((codes, np.array(positions, dtype=np.int64)))

    def __len__(self) -> int:
        return self._rows

    def take(self, chosen: NDArray[np.intp] | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return some rows: numbers as float32, and positions of categories as int64."""
        count = len(range(*chosen.indices(len(self)))) if isinstance(chosen, slice) else len(chosen)
        numbers = np.empty((count, len(self._numbers)), np.float32)
        for position, column in enumerate(self._numbers):
            numbers[:, position] = column[chosen]
        categories = np.empty((count, len(self._categories)), np.int64)
        for position, (codes, lookup) in enumerate(self._categories):
            categories[:, position] = lookup[codes[chosen]]
        return torch.from_numpy(numbers), torch.from_numpy(categories)

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return all rows in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))


def _floats(column: "pd.Series[Any]") -> NDArray[np.float32]:
    values: NDArray[np.float32] = column.to_numpy(dtype=np.float32)
    return values


def _codes(column: "pd.Series[Any]") -> tuple[NDArray[np.integer[Any]], list[str]]:
    """Return a text column as codes and the text of each code."""
    import pandas as pd

    values = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("category")
    return values.cat.codes.to_numpy(), [str(text) for text in values.cat.categories]


def _normal_scores(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return rising points of a distribution and the normal score of each one's mean rank."""
    if not len(values):
        return np.zeros(1, np.float32), np.zeros(1)
    ranks = np.linspace(0, 1, _GRID)
    points = np.quantile(values, ranks).astype(np.float32)
    at, which = np.unique(points, return_inverse=True)
    if len(at) == 1:
        return at, np.zeros(1)
    rank = np.bincount(which, ranks) / np.bincount(which)
    return at, ndtri(np.clip(rank, *_RANKS))


def _bins(score: NDArray[np.float64], n_bins: int) -> NDArray[np.float32]:
    """Return at most `n_bins + 1` rising edges, at even ranks of the points."""
    if len(score) == 1:
        return np.array([-1, 0, 1], np.float32)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, n_bins + 1)).astype(np.float32))
    # One piece only would be no more than the linear part of the embedding.
    return edges if len(edges) > 2 else np.insert(edges, 1, edges.mean())
