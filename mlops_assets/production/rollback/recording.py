"""The table of rollback decisions, ``monitoring/rollback_decisions``: each once, also no."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from mlops_assets.lake import Lake, TableName
from mlops_assets.production.errors import ProductionError
from mlops_assets.production.rollback.deciding import Comparison, RollbackDecision

if TYPE_CHECKING:
    import pyarrow as pa

ROLLBACK_DECISIONS = TableName("monitoring", "rollback_decisions")
DESCRIPTION = "Whether to take the champion back: every decision with its reasons, also no."
_COMPARED = ("metric", "champion", "other", "gain", "at_most", "level", "rows", "days", "looks")
_COLUMNS = (
    ("family", "string", "Model family."),
    ("day", "day", "Last day whose predictions were looked at, in UTC."),
    ("evaluation", "string", "Name of the evaluation; the same one is written once."),
    ("evaluated_at", "instant", "When it was evaluated."),
    ("at", "instant", "The instant that was decided for."),
    ("roll_back", "bool", "The decision."),
    ("champion", "int64", "Version that serves; null where there is none."),
    ("target", "int64", "Version that would serve; null where there is none."),
    ("breaches", "strings", "Limits that are broken, in words."),
    ("reasons_against", "strings", "What holds it back or could not be judged, in words."),
    ("error_rate", "double", "Share of the champion's predictions that failed."),
    ("slow_share", "double", "Share of its requests that took longer than the limit."),
    (
        "compared_metric",
        "string",
        "Metric that the two were compared by; null where they were not.",
    ),
    ("compared_champion", "double", "The champion's, on the rows compared."),
    ("compared_other", "double", "What the target's would have been."),
    ("compared_gain", "double", "The champion's gain over the target, negative where worse."),
    ("compared_at_most", "double", "Upper end of the interval of the gain."),
    ("compared_level", "double", "Level of that interval."),
    ("compared_rows", "int64", "Labelled rows."),
    ("compared_days", "int64", "Days they are of."),
    ("compared_looks", "int64", "Which look it was at this champion."),
)


@dataclass(frozen=True)
class RecordedDecision:
    """A decision as it stands in the table.

    Attributes
    ----------
    decision
        It.
    day, evaluation
        What it is of.
    """

    decision: RollbackDecision
    day: date
    evaluation: str

    @property
    def name(self) -> str:
        """Tells it from every other decision of any family."""
        return f"{self.decision.family}:{self.day}:{self.evaluation}"


def record_decision(
    lake: Lake, decision: RollbackDecision, day: date, evaluation: str, evaluated_at: datetime
) -> bool:
    """Write a decision down, once for each evaluation.

    Parameters
    ----------
    lake
        Where to.
    decision
        It.
    day
        Last day whose predictions were looked at.
    evaluation
        Name of the evaluation, such as the id of a run.
    evaluated_at
        When, with a zone.

    Returns
    -------
    bool
        Whether it was written now; it was before otherwise.
    """
    import pyarrow as pa

    compared = vars(decision.comparison) if decision.comparison else {}
    row = {
        **vars(decision),
        "day": day,
        "evaluation": evaluation,
        "evaluated_at": evaluated_at,
        "breaches": list(decision.breaches),
        "reasons_against": list(decision.reasons_against),
        **{f"compared_{name}": compared.get(name) for name in _COMPARED},
    }
    row.pop("comparison")
    commit = lake.append(
        ROLLBACK_DECISIONS,
        pa.Table.from_pylist([row], schema=_schema()),
        transaction=(f"rollback-{decision.family}-{day}-{evaluation}", 1),
        description=DESCRIPTION,
    )
    return commit is not None


def newest_decision(lake: Lake, family: str) -> RecordedDecision | None:
    """Return the newest decision about a family; None where there is none."""
    return _newest(lake, "family = $family", {"family": family})


def decision_named(lake: Lake, name: str) -> RollbackDecision:
    """Return the decision of a name, as `RecordedDecision.name` gives it.

    Raises
    ------
    ProductionError
        When there is none.
    """
    family, _, rest = name.partition(":")
    day, _, evaluation = rest.partition(":")
    found = _newest(
        lake,
        "family = $family AND day::VARCHAR = $day AND evaluation = $evaluation",
        {"family": family, "day": day, "evaluation": evaluation},
    )
    if found is None:
        raise ProductionError(
            f"there is no rollback decision {name!r}; {ROLLBACK_DECISIONS} has them by family, day "
            "and evaluation"
        )
    return found.decision


def _newest(lake: Lake, condition: str, values: dict[str, str]) -> RecordedDecision | None:
    if not lake.exists(ROLLBACK_DECISIONS):
        return None
    with lake.connect(tables=[ROLLBACK_DECISIONS]) as con:
        found = con.sql(
            f"SELECT * FROM {ROLLBACK_DECISIONS.sql} WHERE {condition} "
            "ORDER BY evaluated_at DESC LIMIT 1",
            params=values,
        )
        rows = found.to_arrow_table().to_pylist()
    return _recorded(rows[0]) if rows else None


def _recorded(row: dict[str, Any]) -> RecordedDecision:
    compared = {name: row[f"compared_{name}"] for name in _COMPARED}
    decision = RollbackDecision(
        family=row["family"],
        at=row["at"],
        roll_back=row["roll_back"],
        champion=row["champion"],
        target=row["target"],
        breaches=tuple(row["breaches"]),
        reasons_against=tuple(row["reasons_against"]),
        comparison=Comparison(**compared) if compared["metric"] is not None else None,
        error_rate=row["error_rate"],
        slow_share=row["slow_share"],
    )
    return RecordedDecision(decision, row["day"], row["evaluation"])


@cache
def _schema() -> "pa.Schema":
    import pyarrow as pa

    kinds = {
        "string": pa.string(),
        "day": pa.date32(),
        "instant": pa.timestamp("us", "UTC"),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "strings": pa.list_(pa.string()),
    }
    return pa.schema(
        [pa.field(name, kinds[kind], metadata={"comment": text}) for name, kind, text in _COLUMNS]
    )
