"""Service health from the inference log: throughput, latency, and what went wrong.

Latency quantiles come from counts in cells that each are one percent wide, so that the error is at
most half of that, any number of requests fits in memory, and the same rows give the same answer
(DDSketch: Masson, Rim & Lee 2019, VLDB 12, 2195-2205). Requests that got no answer are in no
prediction table; of them the log has events. CPU and memory of the workers are not logged: they are
in the server's `/metrics`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlops_assets.features.identifiers import literal
from mlops_assets.monitoring.errors import MonitoringError

if TYPE_CHECKING:
    import duckdb

QUANTILES = (0.5, 0.95, 0.99)

TROUBLE = ("model_refused", "model_failed", "canary_stopped", "canary_not_counted", "log_full",
           "log_gap", "log_damaged", "tokens_unreadable", "traffic_unreadable")  # fmt: skip
"""Events that mean that something was wrong."""

_CELL = math.log(1.01)
_SHORTEST = 1e-6  # seconds; what took less counts as this


@dataclass(frozen=True)
class ServiceHealth:
    """How the model server did for one family.

    Attributes
    ----------
    since, until
        The time looked at, from the first inclusive to the second exclusive.
    requests, predictions
        Requests answered, and rows in them.
    per_second
        Requests a second over the whole time.
    busiest_per_second
        Requests a second in the busiest minute.
    latency
        Quantile to seconds; empty without a request.
    slowest
        The longest that a request took, in seconds; None without one.
    warned_share
        Share of the predictions that were answered with a warning; None without one.
    troubles
        Kind of event to how often it happened, of those that mean trouble; of the family or of the
        server as a whole.
    lost_predictions
        Predictions that were answered and could not be logged.
    """

    since: datetime
    until: datetime
    requests: int
    predictions: int
    per_second: float
    busiest_per_second: float
    latency: Mapping[float, float]
    slowest: float | None
    warned_share: float | None
    troubles: Mapping[str, int]
    lost_predictions: int


def measure_service(
    con: "duckdb.DuckDBPyConnection",
    family: str,
    since: datetime,
    until: datetime,
    *,
    log: str | None = None,
    events: str | None = "inference.events",
) -> ServiceHealth:
    """Measure how the model server did for a family.

    Parameters
    ----------
    con
        A session that knows the log's tables.
    family
        Whose predictions.
    since, until
        By when they were answered, with a zone, the end exclusive.
    log
        The table; by default ``inference.<family>``.
    events
        The table of events; None where there is none.

    Raises
    ------
    MonitoringError
        When the time has no zone or no length.
    """
    if since.tzinfo is None or until.tzinfo is None or since >= until:
        raise MonitoringError(
            f"from {since.isoformat()} to {until.isoformat()} is no time to look at; give two "
            "instants with a zone, the first before the second"
        )
    relation = log or f"inference.{family}"
    span = {"since": since.astimezone(UTC), "until": until.astimezone(UTC)}
    inside = "answered_at >= $since AND answered_at < $until AND role <> 'shadow'"
    [(predictions, warned)] = con.execute(
        f"SELECT count(*), count_if(len(warnings) > 0) FROM {relation} WHERE {inside}", span
    ).fetchall()
    # The rows of a request are numbered, and each has the time of the whole request.
    first = f"{inside} AND prediction_id = request_id || '-0'"
    cells = con.execute(
        f"SELECT floor(ln(greatest(seconds, {_SHORTEST})) / {_CELL!r})::INTEGER AS cell, count(*), "
        f"max(seconds) FROM {relation} WHERE {first} GROUP BY cell ORDER BY cell",
        span,
    ).fetchall()
    [(busiest,)] = con.execute(
        f"SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM {relation} WHERE {first} "
        "GROUP BY time_bucket(INTERVAL 1 minute, answered_at))",
        span,
    ).fetchall()
    requests = sum(count for _, count, _ in cells)
    troubles: dict[str, int] = {}
    lost = 0
    if events is not None:
        kinds = ", ".join(map(literal, TROUBLE))
        for kind, count, rows in con.execute(
            f"SELECT kind, count(*), coalesce(sum(rows), 0)::BIGINT FROM {events} "
            f"WHERE kind IN ({kinds}) AND (family IS NULL OR family = $family) "
            'AND "at" >= $since AND "at" < $until GROUP BY kind ORDER BY kind',
            {**span, "family": family},
        ).fetchall():
            troubles[str(kind)] = count
            lost += rows if kind == "log_gap" else 0
    return ServiceHealth(
        since=since,
        until=until,
        requests=requests,
        predictions=predictions,
        per_second=requests / (until - since).total_seconds(),
        busiest_per_second=busiest / 60,
        latency=_quantiles([(cell, count) for cell, count, _ in cells]) if requests else {},
        slowest=max((slowest for _, _, slowest in cells), default=None),
        warned_share=warned / predictions if predictions else None,
        troubles=troubles,
        lost_predictions=lost,
    )


def _quantiles(cells: list[tuple[int, int]]) -> dict[float, float]:
    """Return each quantile as the middle of the cell it lies in; cells are in order."""
    total = sum(count for _, count in cells)
    found: dict[float, float] = {}
    seen = 0
    waiting = list(QUANTILES)
    for cell, count in cells:
        seen += count
        while waiting and seen >= waiting[0] * total:
            found[waiting.pop(0)] = math.exp((cell + 0.5) * _CELL)
    return found
