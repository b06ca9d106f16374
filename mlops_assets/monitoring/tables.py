"""The tables of monitoring: what their rows are, written exactly once for each evaluation.

`monitoring/drift`, `monitoring/performance`, `monitoring/labels`, `monitoring/service` and
`monitoring/retraining_decisions` only grow. Who evaluates the same day again under the same name
adds nothing; under another name the newer rows stand beside the older, told by `evaluated_at`.
`monitoring/references` keeps what evaluations compare with.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from mlops_assets.lake import Lake, TableName
from mlops_assets.monitoring.errors import MonitoringError

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.monitoring.decision import Decision
    from mlops_assets.monitoring.drift import Statistic, WindowDrift
    from mlops_assets.monitoring.performance import PerformanceReport
    from mlops_assets.monitoring.service_health import ServiceHealth

SCHEMA = "monitoring"
DRIFT = TableName(SCHEMA, "drift")
PERFORMANCE = TableName(SCHEMA, "performance")
LABELS = TableName(SCHEMA, "labels")
SERVICE = TableName(SCHEMA, "service")
DECISIONS = TableName(SCHEMA, "retraining_decisions")
REFERENCES = TableName(SCHEMA, "references")

DESCRIPTIONS = {
    DRIFT: "How far each column was from its reference, by evaluation.",
    PERFORMANCE: "Metrics over windows of days, realised and estimated, by evaluation.",
    LABELS: "What became of the labels of predictions, by window and evaluation.",
    SERVICE: "How the model server did, by evaluation.",
    DECISIONS: "Whether to train again: every decision with its reasons, also no.",
    REFERENCES: "Reference profiles, components and estimators that evaluations compare with.",
}

_COMPACTED_EVERY = 50  # commits, each of one small file

ALL_COLUMNS = "(all)"
"""Stands in `monitoring/drift` for all columns together: their state and multivariate drift."""

_EVALUATION = (
    ("family", "string", "Model family."),
    ("day", "day", "Day that was evaluated, in UTC."),
    ("evaluation", "string", "Name of the evaluation; the same one is written once."),
    ("evaluated_at", "instant", "When it was evaluated."),
)
_STATISTICS = (
    ("psi", "Population stability index"),
    ("jensen_shannon", "Jensen-Shannon distance, 0 to 1"),
    ("kolmogorov_smirnov", "Kolmogorov-Smirnov distance"),
    ("missing", "Absolute change of the share of missing values"),
    ("new_levels", "Share of rows with a level that the reference has not"),
    ("reconstruction", "Relative change of the reconstruction error, of all columns together"),
)
_COLUMNS: dict[TableName, tuple[tuple[str, str, str], ...]] = {
    DRIFT: (
        *_EVALUATION,
        ("version", "int64", "Version of the model whose reference it was compared with."),
        ("window_days", "int64", "Days of the window that ends with the day."),
        ("subject", "string", "feature, prediction or label."),
        ("column", "string", f"Which column; {ALL_COLUMNS} for all of the subject together."),
        ("state", "string", "compared, no rows, or too few rows."),
        ("rows", "int64", "Current rows."),
        *(
            row
            for name, title in _STATISTICS
            for row in (
                (name, "double", f"{title}; null where there is none."),
                (f"{name}_by_chance", "double", f"What {name} exceeds by chance once in 1/alpha."),
                (f"{name}_threshold", "double", f"What {name} must exceed to count."),
            )
        ),
        ("kolmogorov_smirnov_error", "double", "How much greater the true distance may be."),
        ("missing_share", "double", "Share of current rows without a value."),
        ("reference_missing_share", "double", "The same of the reference."),
        ("new_level_examples", "strings", "Some new levels, the most frequent first."),
        ("drifted", "bool", "Whether anything exceeded its threshold."),
        ("reasons", "strings", "What did, in words."),
        ("reference", "string", "What it was compared with."),
    ),
    PERFORMANCE: (
        *_EVALUATION,
        ("as_of", "instant", "Labels known by then count."),
        ("kind", "string", "realised or estimated."),
        ("window_days", "int64", "Days of the window that ends with the day."),
        ("metric", "string", "Name of the metric."),
        ("slice_column", "string", "Column of the slice; null for all rows."),
        ("slice_value", "string", "Its value; null for all rows."),
        ("value", "double", "The metric; null where it cannot be computed."),
        ("low", "double", "Lower end of its interval; null without one."),
        ("high", "double", "Upper end of its interval; null without one."),
        ("reason", "string", "Why value or interval are missing; empty when both are there."),
        ("rows", "int64", "Rows it was computed from."),
        ("versions", "int64s", "Versions of the model that answered in the longest window."),
    ),
    LABELS: (
        *_EVALUATION,
        ("as_of", "instant", "Labels known by then count."),
        ("window_days", "int64", "Days of the window that ends with the day."),
        ("predictions", "int64", "Predictions."),
        ("labelled", "int64", "Those with a label."),
        ("never", "int64", "Those known to get none."),
        ("pending", "int64", "Those whose label is not due yet."),
        ("overdue", "int64", "Those whose label is overdue."),
        ("repeated", "int64", "Those whose label came more than once."),
        ("changed", "int64", "Those whose label changed."),
        ("without_features", "int64", "Those made with every feature missing."),
        ("without_answer", "int64", "Those whose answer is null or no number."),
    ),
    SERVICE: (
        *_EVALUATION,
        ("since", "instant", "Beginning of the time looked at."),
        ("until", "instant", "Its end, exclusive."),
        ("requests", "int64", "Requests answered."),
        ("predictions", "int64", "Rows in them."),
        ("per_second", "double", "Requests a second."),
        ("busiest_per_second", "double", "Requests a second in the busiest minute."),
        ("p50_seconds", "double", "Median latency; null without a request."),
        ("p95_seconds", "double", "Latency at the 95th percentile."),
        ("p99_seconds", "double", "Latency at the 99th percentile."),
        ("slowest_seconds", "double", "Longest latency."),
        ("warned_share", "double", "Share of predictions answered with a warning."),
        ("troubles", "counts", "Kind of event that means trouble to how often it happened."),
        ("lost_predictions", "int64", "Predictions that could not be logged."),
    ),
    DECISIONS: (
        *_EVALUATION,
        ("at", "instant", "The instant that was decided for."),
        ("retrain", "bool", "The decision."),
        ("reasons_for", "strings", "Why, in words."),
        ("reasons_against", "strings", "Why not, in words."),
        ("champion", "int64", "Version that serves; null where there is none."),
        ("age_days", "double", "Age of the champion by the clock."),
        ("data_age_days", "double", "Age of its newest row, by the newest label."),
        ("new_rows", "int64", "Labelled rows since its training."),
        ("drifted_share", "double", "Share of the features that drifted."),
        ("realised_drop", "double", "How much worse the primary metric is than its reference."),
        ("estimated_drop", "double", "The same, estimated without labels."),
        ("training_minutes", "double", "What the last training took."),
    ),
    REFERENCES: (
        ("family", "string", "Model family."),
        ("version", "int64", "Version of the model it belongs to."),
        ("kind", "string", "What it is, such as feature, reconstruction or estimator."),
        ("made_at", "instant", "When it was made."),
        ("content", "string", "It, as JSON."),
    ),
}


@cache
def schema_of(table: TableName) -> "pa.Schema":
    """Return the columns of a table of monitoring, each with its description."""
    import pyarrow as pa

    kinds = {
        "string": pa.string(),
        "day": pa.date32(),
        "instant": pa.timestamp("us", "UTC"),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "strings": pa.list_(pa.string()),
        "int64s": pa.list_(pa.int64()),
        "counts": pa.map_(pa.string(), pa.int64()),
    }
    return pa.schema(
        [pa.field(n, kinds[k], metadata={"comment": text}) for n, k, text in _COLUMNS[table]]
    )


class MonitoringTables:
    """Writes evaluations of one day of one family, each row exactly once.

    Parameters
    ----------
    lake
        Where to.
    family, day
        Whose, and of which day.
    evaluation
        Name of the evaluation, such as the id of a run or ``first``; under the same name nothing is
        written twice.
    evaluated_at
        When, with a zone.
    """

    def __init__(
        self, lake: Lake, family: str, day: date, evaluation: str, evaluated_at: datetime
    ) -> None:
        if not evaluation:
            raise MonitoringError(
                f"{family}, {day}: an evaluation needs a name, to be written once"
            )
        self._lake = lake
        self._of = {
            "family": family,
            "day": day,
            "evaluation": evaluation,
            "evaluated_at": evaluated_at,
        }

    def write_drift(self, version: int, found: Sequence["WindowDrift"]) -> bool:
        """Write drift reports of windows, each with a row for all columns together.

        Parameters
        ----------
        version
            The model whose reference they were compared with.
        found
            All of this evaluation.

        Returns
        -------
        bool
            Whether it was written now; it was before otherwise. The same holds for the others.
        """
        return self._append(
            DRIFT, [{"version": version, **row} for one in found for row in _drift_rows(one)]
        )

    def write_performance(self, report: "PerformanceReport") -> bool:
        """Write a performance report, and what became of the labels."""
        rows = [
            {
                "day": one.day,
                "as_of": report.as_of,
                "kind": str(one.kind),
                "window_days": one.window_days,
                "metric": one.metric,
                "slice_column": one.slice_column,
                "slice_value": one.slice_value,
                "value": one.found.value,
                "low": one.found.low,
                "high": one.found.high,
                "reason": one.found.reason,
                "rows": one.rows,
                "versions": list(report.versions),
            }
            for one in report.performances
        ]
        labels = [
            {"day": report.mature, "as_of": report.as_of, "window_days": length, **vars(counts)}
            for length, counts in report.labels.items()
        ]
        # Both, whatever became of the first: a crash between them is made good by a repetition.
        written = self._append(LABELS, labels)
        return self._append(PERFORMANCE, rows) or written

    def write_service(self, health: "ServiceHealth") -> bool:
        """Write how the model server did."""
        row = {
            **{
                name: getattr(health, name)
                for name in (
                    "since", "until", "requests", "predictions", "per_second",
                    "busiest_per_second", "warned_share", "lost_predictions",
                )
            },
            "p50_seconds": health.latency.get(0.5),
            "p95_seconds": health.latency.get(0.95),
            "p99_seconds": health.latency.get(0.99),
            "slowest_seconds": health.slowest,
            "troubles": list(health.troubles.items()),
        }  # fmt: skip
        return self._append(SERVICE, [row])

    def write_decision(self, decision: "Decision") -> bool:
        """Write a retraining decision."""
        lists = ("reasons_for", "reasons_against")
        row = {**vars(decision), **{name: list(getattr(decision, name)) for name in lists}}
        return self._append(DECISIONS, [row])

    def _append(self, table: TableName, rows: list[dict[str, Any]]) -> bool:
        import pyarrow as pa

        schema = schema_of(table)
        filled = [{name: {**self._of, **row}.get(name) for name in schema.names} for row in rows]
        of = "-".join(
            [table.name, *(str(self._of[name]) for name in ("family", "day", "evaluation"))]
        )
        done = self._lake.append(
            table,
            pa.Table.from_pylist(filled, schema=schema),
            transaction=(of, 1),
            description=DESCRIPTIONS[table],
        )
        if done is not None and done.version % _COMPACTED_EVERY == 0:
            self._lake.compact(table)
        return done is not None


def _drift_rows(found: "WindowDrift") -> Iterator[dict[str, Any]]:
    """Give the row of all columns together, and that of each column."""
    report, reconstruction = found.report, found.reconstruction
    common = {
        "window_days": found.window_days,
        "subject": str(report.subject),
        "state": report.state,
        "rows": report.rows,
        "reference": report.reference,
    }
    exceeded = reconstruction is not None and reconstruction.exceeded
    yield {
        **common,
        "column": ALL_COLUMNS,
        **_flat("reconstruction", reconstruction),
        "drifted": exceeded,
        "reasons": [f"reconstruction error changed, {reconstruction}"] if exceeded else [],
    }
    for one in report.columns:
        yield {
            **common,
            "column": one.column,
            **_flat("psi", one.psi),
            **_flat("jensen_shannon", one.jensen_shannon),
            **_flat("kolmogorov_smirnov", one.kolmogorov_smirnov),
            **_flat("missing", one.missing),
            **_flat("new_levels", one.new_levels),
            "kolmogorov_smirnov_error": one.kolmogorov_smirnov_error,
            "missing_share": one.missing_share,
            "reference_missing_share": one.reference_missing_share,
            "new_level_examples": list(one.new_level_examples),
            "drifted": one.drifted,
            "reasons": list(one.reasons),
        }


def _flat(name: str, found: "Statistic | None") -> dict[str, float | None]:
    return {
        name: None if found is None else found.value,
        f"{name}_by_chance": None if found is None else found.by_chance,
        f"{name}_threshold": None if found is None else found.threshold,
    }


def keep_reference(
    lake: Lake, family: str, version: int, kind: str, content: str, made_at: datetime
) -> bool:
    """Keep what evaluations of a model version compare with, once.

    Parameters
    ----------
    lake
        Where to.
    family, version
        The model.
    kind
        What it is, such as a `Subject`, ``reconstruction`` or ``estimator``.
    content
        It, as its `to_json` gives it.
    made_at
        When, with a zone.

    Returns
    -------
    bool
        Whether it was kept now. What was kept before stays: thresholds must not move.
    """
    import pyarrow as pa

    row = {
        "family": family, "version": version, "kind": kind, "made_at": made_at, "content": content
    }  # fmt: skip
    done = lake.append(
        REFERENCES,
        pa.Table.from_pylist([row], schema=schema_of(REFERENCES)),
        transaction=(f"reference-{family}-{version}-{kind}", 1),
        description=DESCRIPTIONS[REFERENCES],
    )
    return done is not None


def kept_references(lake: Lake, family: str, version: int) -> Mapping[str, str]:
    """Return what was kept of a model version: kind to JSON."""
    if not lake.exists(REFERENCES):
        return {}
    with lake.connect(tables=[REFERENCES]) as con:
        rows = con.execute(
            f"SELECT kind, content FROM {REFERENCES.sql} WHERE family = ? AND version = ?",
            [family, version],
        ).fetchall()
    return dict(rows)


def last_drift(
    lake: Lake, family: str, version: int, window_days: int, until: date, evaluations: int
) -> Sequence[tuple[date, int, tuple[str, ...], bool]]:
    """Return what drifted in the last evaluated days from what a version learnt, the oldest first.

    Of a day that was evaluated more than once the newest evaluation counts; days that were not
    judged, for want of rows, are left out.

    Returns
    -------
    sequence of tuple
        Day, features judged, names of those that drifted, and whether the predictions did.
    """
    if not lake.exists(DRIFT):
        return ()
    with lake.connect(tables=[DRIFT]) as con:
        rows = con.execute(
            f"""
            WITH newest AS (
                SELECT * FROM {DRIFT.sql}
                WHERE family = $family AND version = $version
                    AND window_days = $window AND day <= $until
                    AND state = 'compared' AND "column" <> '{ALL_COLUMNS}'
                QUALIFY evaluated_at = max(evaluated_at) OVER (PARTITION BY day, subject)
            )
            SELECT day, count_if(subject = 'feature'),
                coalesce(list("column" ORDER BY "column")
                    FILTER (subject = 'feature' AND drifted), []),
                coalesce(bool_or(drifted) FILTER (subject = 'prediction'), false)
            FROM newest GROUP BY day ORDER BY day DESC LIMIT $most
            """,
            {
                "family": family,
                "version": version,
                "window": window_days,
                "until": until,
                "most": evaluations,
            },
        ).fetchall()
    return tuple(
        (day, features, tuple(drifted), bool(predictions))
        for day, features, drifted, predictions in reversed(rows)
    )
