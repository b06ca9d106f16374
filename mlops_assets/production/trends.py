"""What monitoring has found over many days, read from its tables for plots and pages.

Of a day that was evaluated more than once the newest evaluation that knew a value counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from mlops_assets.features.identifiers import quote
from mlops_assets.lake import Lake
from mlops_assets.monitoring.performance import Kind
from mlops_assets.monitoring.pictures import Mark
from mlops_assets.monitoring.profile import Subject
from mlops_assets.monitoring.tables import ALL_COLUMNS, DECISIONS, DRIFT, PERFORMANCE
from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.family import ModelFamily

_ALWAYS = ("missing", "new_levels", "reconstruction")  # beside the distance that decides


@dataclass(frozen=True)
class PerformanceTrend:
    """A metric day by day.

    Attributes
    ----------
    metric, window_days
        Which one, over windows of how many days that end with the day.
    realised, estimated
        By day.
    marks
        When another version began to be evaluated, and when a training was decided.
    """

    metric: str
    window_days: int
    realised: Mapping[date, Estimate]
    estimated: Mapping[date, Estimate]
    marks: tuple[Mark, ...]


def performance_trend(
    lake: Lake, family: ModelFamily, metric: str, window_days: int, until: date, days: int
) -> PerformanceTrend:
    """Read a metric of all rows over the last days.

    Parameters
    ----------
    lake, family, metric
        Where, whose, which.
    window_days
        Length of the windows, one of those that the family declares.
    until, days
        The last day, and how many there are.
    """
    found: dict[Kind, dict[date, Estimate]] = {kind: {} for kind in Kind}
    if lake.exists(PERFORMANCE):
        with lake.connect(tables=[PERFORMANCE]) as con:
            rows = con.execute(
                f"""
                SELECT kind, day, value, low, high, reason FROM {PERFORMANCE.sql}
                WHERE family = $family AND metric = $metric AND window_days = $window
                    AND slice_column IS NULL AND day > $first AND day <= $until
                QUALIFY row_number() OVER (
                    PARTITION BY kind, day ORDER BY value IS NULL, evaluated_at DESC
                ) = 1
                ORDER BY day
                """,
                {
                    "family": family.name,
                    "metric": metric,
                    "window": window_days,
                    "first": until - timedelta(days=days),
                    "until": until,
                },
            ).fetchall()
        for kind, day, *estimate in rows:
            found[Kind(kind)][day] = Estimate(*estimate)
    return PerformanceTrend(
        metric,
        window_days,
        found[Kind.realised],
        found[Kind.estimated],
        decision_marks(lake, family, until, days),
    )


def decision_marks(lake: Lake, family: ModelFamily, until: date, days: int) -> tuple[Mark, ...]:
    """Return on which days another version began to be evaluated, or a training was decided."""
    if not lake.exists(DECISIONS):
        return ()
    with lake.connect(tables=[DECISIONS]) as con:
        rows = con.execute(
            f"""
            WITH newest AS (
                SELECT day, champion, retrain FROM {DECISIONS.sql}
                WHERE family = $family AND day > $first AND day <= $until
                QUALIFY row_number() OVER (PARTITION BY day ORDER BY evaluated_at DESC) = 1
            )
            SELECT day, champion, retrain, lag(champion, 1, champion) OVER (ORDER BY day) AS before
            FROM newest ORDER BY day
            """,
            {"family": family.name, "first": until - timedelta(days=days), "until": until},
        ).fetchall()
    marks = []
    for day, champion, retrain, before in rows:
        if champion != before:
            marks.append(Mark(day, f"version {champion}"))
        elif retrain:
            marks.append(Mark(day, "retrain"))
    return tuple(marks)


def drift_trend(
    lake: Lake, family: ModelFamily, subject: Subject, window_days: int, until: date, days: int
) -> Mapping[str, Mapping[date, float | None]]:
    """Read how far each column was from its threshold over the last days.

    Parameters
    ----------
    lake, family, subject
        Where, whose, and of what.
    window_days, until, days
        As for `performance_trend`.

    Returns
    -------
    mapping
        Column to day to the largest of its statistics that count, divided by its threshold; None
        where nothing was judged. All columns together are one of them.
    """
    if not lake.exists(DRIFT):
        return {}
    deciding = family.monitoring.drift.statistic
    ratios = ", ".join(
        f"{quote(name)} / nullif({quote(f'{name}_threshold')}, 0)"
        for name in (deciding, *(("jensen_shannon",) if deciding != "psi" else ()), *_ALWAYS)
    )
    with lake.connect(tables=[DRIFT]) as con:
        rows = con.execute(
            f"""
            SELECT "column", day, greatest({ratios}) FROM {DRIFT.sql}
            WHERE family = $family AND subject = $subject AND window_days = $window
                AND day > $first AND day <= $until
            QUALIFY evaluated_at = max(evaluated_at) OVER (PARTITION BY day)
            ORDER BY day
            """,
            {
                "family": family.name,
                "subject": subject.value,
                "window": window_days,
                "first": until - timedelta(days=days),
                "until": until,
            },
        ).fetchall()
    found: dict[str, dict[date, float | None]] = {}
    for column, day, ratio in rows:
        name = "all together" if column == ALL_COLUMNS else column
        found.setdefault(name, {})[day] = ratio
    return found
