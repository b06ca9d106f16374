"""SHAP values of any model, by walking from background rows to the explained ones.

For a random order of the features, a background row is turned into the explained row one feature at
a time; what the score changes by is that feature's contribution. The changes of one walk add up to
the difference of the two scores exactly, and so do means over walks. Each order is also walked
backwards, which cancels much of the error (Castro, Gómez & Tejada 2009, Computers & Operations
Research 36; Mitchell, Cooper, Frank & Holmes 2022, Journal of Machine Learning Research 23). Every
step of many rows is one call of the model.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.dataset import FeatureSchema

if TYPE_CHECKING:
    import pandas as pd

Score = Callable[["pd.DataFrame", NDArray[np.intp]], NDArray[np.float64]]
"""From rows, and for each the position of the explained row it was made for, to scores."""

_ROWS_AT_ONCE = 50_000


def permutation_shap(
    score: Score,
    features: "pd.DataFrame",
    background: "pd.DataFrame",
    schema: FeatureSchema,
    *,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split each row's score into what each feature adds to the mean score of the background.

    Parameters
    ----------
    score
        The model. It is asked for two times (features + 1) rows for each row and background row.
    features
        Rows to explain.
    background
        Rows they are compared with.
    schema
        The features.
    seed
        Of the orders.

    Returns
    -------
    tuple
        Contributions, shape (rows, features), and expected scores, shape (rows,); together they add
        up to the score of each row.
    """
    columns = [_Column(features[name], background[name]) for name in schema.names]
    width = len(columns)
    random = np.random.default_rng(seed)
    orders = [random.permutation(width) for _ in range(len(background))]
    contributions = np.zeros((len(features), width))
    expected = np.zeros(len(features))
    for start in range(0, len(features), chunk := max(1, _ROWS_AT_ONCE // (width + 1))):
        rows = np.arange(start, min(start + chunk, len(features)))
        for reference, forwards in enumerate(orders):
            for order in (forwards, forwards[::-1]):
                scores = _walk(score, columns, schema, rows, reference, order)
                contributions[rows[:, None], order] += np.diff(scores, axis=0).T
                expected[rows] += scores[0]
    walks = 2 * len(background)
    return contributions / walks, expected / walks


class _Column:
    """One feature of the explained rows and of the background, in common values."""

    def __init__(self, explained: "pd.Series[Any]", background: "pd.Series[Any]") -> None:
        import pandas as pd

        self._dtype = None
        if isinstance(explained.dtype, pd.CategoricalDtype):
            both = pd.concat([explained.astype(object), background.astype(object)])
            values = both.astype("category")
            self._dtype = values.dtype
            codes = values.cat.codes.to_numpy()
            self._explained, self._background = np.split(codes, [len(explained)])
        else:
            self._explained, self._background = explained.to_numpy(), background.to_numpy()

    def mixed(self, rows: NDArray[np.intp], reference: int, on: NDArray[np.bool_]) -> Any:
        """Return the explained rows' values where a step is on, else the background row's."""
        values = np.where(on[:, None], self._explained[rows], self._background[reference]).ravel()
        if self._dtype is None:
            return values
        import pandas as pd

        return pd.Categorical.from_codes(values, dtype=self._dtype)


def _walk(
    score: Score,
    columns: list[_Column],
    schema: FeatureSchema,
    rows: NDArray[np.intp],
    reference: int,
    order: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return the scores at each step of the way, shape (features + 1, rows)."""
    import pandas as pd

    steps = np.arange(len(columns) + 1)
    turned_at = np.empty(len(columns), dtype=np.intp)
    turned_at[order] = steps[1:]
    mixed = {
        name: column.mixed(rows, reference, steps >= turned)
        for name, column, turned in zip(schema.names, columns, turned_at, strict=True)
    }
    frame = pd.DataFrame(mixed, copy=False)
    return score(frame, np.tile(rows, len(steps))).reshape(len(steps), len(rows))
