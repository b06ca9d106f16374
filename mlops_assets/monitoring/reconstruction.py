"""Multivariate drift: whether numeric features still go together as they did.

Principal components are fitted on the reference and few of them kept; a row is projected on them
and back, and the squared distance to what it was is its reconstruction error (the Q statistic of
Jackson & Mudholkar 1979, Technometrics 21, 341-349; on data streams Qahtan et al. 2015, KDD,
935-944; NannyML's data reconstruction is the same). Its mean changes when the columns' dependence
changes, also where no single column does. Missing values count as the mean.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlops_assets.features.identifiers import quote
from mlops_assets.monitoring.drift import Statistic
from mlops_assets.monitoring.errors import MonitoringError
from mlops_assets.monitoring.no_change import Floats
from mlops_assets.monitoring.profile import check_columns
from mlops_assets.training.family_monitoring import DriftPolicy

if TYPE_CHECKING:
    import duckdb

MOST_ROWS = 20_000
"""Rows that are looked at, evenly spaced; memory and time depend on this and not on the table."""

KEPT_VARIANCE = 0.65
"""Share of the variance that the kept components explain."""

_FURTHEST = 10.0  # standard deviations beyond which a value counts as this far, so that none rules


@dataclass(frozen=True)
class Reconstruction:
    """Principal components of a reference, and how well they give its rows back.

    Attributes
    ----------
    columns
        Numeric columns that vary.
    mean, scale
        Of each column.
    components
        One row a component, one number a column.
    rows, days
        Rows of the reference that were looked at, and their days; 0 days where it was not told.
    error
        Their mean reconstruction error.
    row_variance, day_variance
        Variance of the error of a row, and of a day's mean beyond that.
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]
    rows: int
    days: int
    error: float
    row_variance: float
    day_variance: float

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Reconstruction":
        """Read what `to_json` wrote.

        Raises
        ------
        MonitoringError
            When it is none.
        """
        try:
            raw = json.loads(text)
            lists = {key: tuple(raw[key]) for key in ("columns", "mean", "scale")}
            components = tuple(tuple(row) for row in raw["components"])
            return cls(**{**raw, **lists, "components": components})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise MonitoringError(f"these are no principal components: {error!r}") from error

    def errors(self, values: Floats) -> Floats:
        """Return the reconstruction error of each row of shape (rows, columns)."""
        standard = (values - self.mean) / self.scale
        standard = np.clip(np.nan_to_num(standard, nan=0.0), -_FURTHEST, _FURTHEST)
        components = np.array(self.components)
        lost = standard - standard @ components.T @ components
        found: Floats = (lost**2).sum(axis=1)
        return found


def fit_reconstruction(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    columns: Sequence[str],
    *,
    day: str | None = None,
) -> Reconstruction | None:
    """Fit principal components on a sample of the reference.

    Parameters
    ----------
    con, relation, day
        As for `profile_reference`.
    columns
        Of the relation; texts take no part.

    Returns
    -------
    Reconstruction or None
        None where fewer than two numeric columns vary, so that nothing can go together.

    Raises
    ------
    MonitoringError
        When a column is absent, or the reference has no row.
    """
    kinds = check_columns(con, relation, [*columns, *([day] if day else [])], free=day)
    numeric = [name for name in columns if kinds[name]]
    if len(numeric) < 2:
        return None
    values, days = _sample(con, relation, numeric, day)
    if not len(values):
        raise MonitoringError(f"the reference {relation} has no row to fit components on")
    filled = np.where(np.isfinite(values), values, np.nan)
    present = np.isfinite(filled)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, filled, 0).sum(axis=0) / count
    scale = np.sqrt((np.where(present, filled - mean, 0) ** 2).sum(axis=0) / count)
    varies = scale > 0
    if varies.sum() < 2:
        return None
    kept = [name for name, used in zip(numeric, varies, strict=True) if used]
    standard = np.nan_to_num((filled[:, varies] - mean[varies]) / scale[varies], nan=0.0)
    standard = np.clip(standard, -_FURTHEST, _FURTHEST)
    strength, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    explained = np.cumsum(strength[::-1]) / strength.sum()
    number = min(int(np.searchsorted(explained, KEPT_VARIANCE)) + 1, len(kept) - 1)
    fitted = Reconstruction(
        columns=tuple(kept),
        mean=tuple(mean[varies].tolist()),
        scale=tuple(scale[varies].tolist()),
        components=tuple(map(tuple, vectors[:, ::-1][:, :number].T.tolist())),
        rows=len(values),
        days=0,
        error=0.0,
        row_variance=0.0,
        day_variance=0.0,
    )
    errors = fitted.errors(filled[:, varies])
    names, place = np.unique(days, return_inverse=True)
    size = np.bincount(place).astype(np.float64)
    means = np.bincount(place, weights=errors) / size
    within = float(errors.var())
    between = float((size / size.sum()) @ (means - errors.mean()) ** 2) - within * len(names) / len(
        errors
    )
    return Reconstruction(
        **{
            **asdict(fitted),
            "days": len(names) if day else 0,
            "error": float(errors.mean()),
            "row_variance": within,
            "day_variance": max(0.0, between) if day else 0.0,
        }
    )


def reconstruction_drift(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    reference: Reconstruction,
    policy: DriftPolicy | None = None,
    *,
    day: str | None = None,
) -> Statistic | None:
    """Return the relative change of the mean reconstruction error, up or down.

    Parameters
    ----------
    con, relation, day
        As for `find_drift`.
    reference
        What was fitted.
    policy
        What counts; by default the declaration's defaults.

    Returns
    -------
    Statistic or None
        None where there are too few rows to judge.

    Raises
    ------
    MonitoringError
        When a column is absent or no number.
    """
    from scipy.stats import norm

    policy = policy or DriftPolicy()
    kinds = check_columns(con, relation, [*reference.columns, *([day] if day else [])], free=day)
    if texts := [name for name in reference.columns if not kinds[name]]:
        raise MonitoringError(f"{relation}: {', '.join(texts)} were numbers in the reference")
    values, days = _sample(con, relation, reference.columns, day)
    if len(values) < policy.min_rows:
        return None
    errors = reference.errors(np.where(np.isfinite(values), values, np.nan))
    rows = 1 / len(values) + 1 / reference.rows
    by_day = 1 / len(np.unique(days)) + 1 / max(reference.days, 1)
    spread = math.sqrt(reference.row_variance * rows + reference.day_variance * by_day)
    chance = float(norm.ppf(1 - policy.alpha / 2)) * spread / reference.error
    value = abs(float(errors.mean()) / reference.error - 1)
    return Statistic(value, chance, max(chance, policy.reconstruction))


def _sample(
    con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[str], day: str | None
) -> tuple[Floats, NDArray[np.int64]]:
    """Return evenly spaced rows, the same in every run, and the number of each one's day."""
    [(rows,)] = con.execute(f"SELECT count(*) FROM {relation}").fetchall()
    every = max(1, -(-rows // MOST_ROWS))
    chosen = ", ".join(f"{quote(name)}::DOUBLE" for name in columns)
    date = f"date_diff('day', DATE '1970-01-01', {quote(day)}::DATE)" if day else "0::BIGINT"
    found = con.sql(
        f'SELECT * EXCLUDE ("@row") FROM (SELECT {chosen}, {date}, '
        f'row_number() OVER () - 1 AS "@row" FROM {relation}) WHERE "@row" % {every} = 0'
    ).to_arrow_table()
    arrays = [column.to_numpy(zero_copy_only=False) for column in found.columns]
    values = np.stack([array.astype(np.float64) for array in arrays[:-1]], axis=1)
    return values, arrays[-1].astype(np.int64)
