"""The root mean square of gaps between promised and observed, without the noise in it.

A gap that is measured is never zero, however well calibrated a model is: its square holds the
square of the true gap and the variance of the noise. So the mean of measured gaps is biased upward,
the more so the fewer the rows, and a bootstrap draw of it, noisy twice, lies above the measured
value. Kumar, Liang & Ma 2019 (NeurIPS 32, section 5) estimate the squared gap without that bias, by
taking the noise's variance off. Here that is done for days, the blocks of all intervals: a square
is the mean product over *pairs of different days*, whose noise is independent and cancels. It holds
for any weighting of days too, so a draw is as unbiased as the value, and its percentile interval
stands around it.
"""

import numpy as np

from mlops_assets.training.metrics.scored import Floats, MetricError, Weighted, ratio


def root_mean_square_gap(gap: Floats, count: Floats) -> Weighted:
    """Reduce gaps to the root of their mean square, bins weighted by their rows.

    Where noise hides the gap, the estimated square is negative; the root is then 0.

    Parameters
    ----------
    gap
        Sum over the rows of promised minus observed, shape (blocks, bins).
    count
        Rows, shape (blocks, bins).

    Raises
    ------
    MetricError
        When no bin has rows of two different blocks, so that there is no pair.
    """
    if not ((count > 0).sum(axis=0) > 1).any():
        raise MetricError(
            "the rows of each bin are all of one day; gaps are told from noise by comparing days"
        )
    gap_squares, count_squares = gap**2, count**2

    def root(weights: Floats) -> Floats:
        # Over pairs of different days: the square of the sum, less the days paired with themselves.
        squares = weights**2
        products = (weights @ gap) ** 2 - squares @ gap_squares
        rows = weights @ count
        pairs = rows**2 - squares @ count_squares
        # A bin whose rows are all of one day has no pairs, up to what rounding leaves of them.
        known = pairs > 1e-9 * np.maximum(rows**2, 1)
        square = np.divide(products, pairs, out=np.zeros_like(products), where=known)
        mean: Floats = ratio((rows * square).sum(axis=1), (rows * known).sum(axis=1))
        # NaN, of a draw without pairs, stays NaN.
        return np.sqrt(np.maximum(mean, 0.0))

    return root
