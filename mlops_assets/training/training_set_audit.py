"""The audit of a built training set: is it fit to learn from and to judge on, and what is in it.

Here belong the looks at a training set before it is published, what they found, and how that is
kept beside the table.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from mlops_assets.lake.schemas import quoted
from mlops_assets.training.dataset import PARTS, FeatureSchema, feature_schema
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.labels import label_facts
from mlops_assets.training.tasks import TaskError, declared_task
from mlops_assets.training.training_set_relations import (
    DATED,
    JOINED,
    KNOWN_AT,
    SCORED,
    SPLIT,
    TrainingSetError,
    count,
)

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class PartSummary:
    """What one part of the split holds.

    Attributes
    ----------
    rows
        How many.
    label
        What the labels are: the share of yes or of each class, or where the values lie.
    first_day, last_day
        Calendar days by the split column.
    """

    rows: int
    label: Mapping[str, float]
    first_day: date
    last_day: date


@dataclass(frozen=True)
class FeatureFinding:
    """A feature that is of no use as it is; reported, not refused."""

    feature: str
    problem: str


@dataclass(frozen=True)
class TrainingSetAudit:
    """What was found in a training set before it was published.

    Attributes
    ----------
    rows
        Rows published, purged ones included.
    parts
        The parts by name.
    purged
        Rows whose label came too late for their part.
    unlabelled
        Spine rows without a known label.
    outside
        Labelled rows before the first or after the last day of the split.
    features
        How many there are.
    findings
        Features that are null or constant throughout the training part.
    """

    rows: int
    parts: Mapping[str, PartSummary]
    purged: int
    unlabelled: int
    outside: int
    features: int
    findings: tuple[FeatureFinding, ...]

    def state(self) -> dict[str, Any]:
        """Return the audit as JSON values; `audit_from` reads them."""
        state: dict[str, Any] = json.loads(json.dumps(asdict(self), default=date.isoformat))
        return state


def audit_training_set(
    con: "duckdb.DuckDBPyConnection", family: ModelFamily, *, unlabelled: int, outside: int
) -> TrainingSetAudit:
    """Check the built training set.

    Parameters
    ----------
    con
        Session that holds the relations of the build.
    family
        Whose training set it is.
    unlabelled, outside
        Rows of the spine that are left out: without a known label, and on no day of the split.

    Raises
    ------
    TrainingSetError
        Listing every fault that makes it unfit to learn from or to judge on.
    """
    faults: list[str] = []
    leaks = count(con, f"SELECT count(*) FROM {DATED} WHERE {KNOWN_AT} > prediction_time")
    if leaks:
        faults.append(f"{leaks} rows hold a feature value that was not known at prediction time")
    task = declared_task(family)
    labels = label_facts(con, SPLIT, task)
    purged = labels.pop("purged").rows if "purged" in labels else 0
    if "train" in labels:
        task = task.learnt_from(labels["train"])
    for part in PARTS:
        if part not in labels:
            faults.append(
                f"{part}: is empty; {_days_of(con)} {unlabelled} spine rows have no label, "
                f"{outside} lie outside the split and {purged} were purged"
            )
            continue
        try:
            task.check_labels(part, labels[part])
        except TaskError as error:
            faults.append(str(error))
    schema = feature_schema(con, JOINED, family)
    findings, infinite = _examine(con, schema)
    faults += infinite
    if faults:
        raise TrainingSetError(
            "\n".join([f"training set of {family.name} is refused:", *(f"  {f}" for f in faults)])
        )
    parts = {
        part: PartSummary(labels[part].rows, task.summary(labels[part]), first, last)
        for part, first, last in con.execute(
            f"""
            SELECT split, min(split_day), max(split_day)
            FROM {SPLIT} WHERE split <> 'purged' GROUP BY split ORDER BY min(split_day)
            """
        ).fetchall()
    }
    return TrainingSetAudit(
        rows=sum(part.rows for part in parts.values()) + purged,
        parts=parts,
        purged=purged,
        unlabelled=unlabelled,
        outside=outside,
        features=len(schema.names),
        findings=findings,
    )


def audit_from(state: Mapping[str, Any]) -> TrainingSetAudit:
    """Return the audit that `TrainingSetAudit.state` described."""
    parts = {
        name: PartSummary(
            rows=part["rows"],
            # One from before there was a choice of tasks has the mean of a binary label.
            label=part["label"] if "label" in part else {"yes": part["mean_label"]},
            first_day=date.fromisoformat(part["first_day"]),
            last_day=date.fromisoformat(part["last_day"]),
        )
        for name, part in state["parts"].items()
    }
    findings = tuple(FeatureFinding(**finding) for finding in state["findings"])
    in_order = {name: parts[name] for name in PARTS}
    return TrainingSetAudit(**{**state, "parts": in_order, "findings": findings})


def _days_of(con: "duckdb.DuckDBPyConnection") -> str:
    days = con.execute(f"SELECT min(split_day), max(split_day) FROM {SCORED}").fetchone()
    if days is None or days[0] is None:
        return "the spine is empty;"
    return f"the spine runs from {days[0]} to {days[1]};"


def _examine(
    con: "duckdb.DuckDBPyConnection", schema: FeatureSchema
) -> tuple[tuple[FeatureFinding, ...], list[str]]:
    """Find features that say nothing in training, and those that hold infinite numbers."""
    facts = _facts(
        con,
        "WHERE split = 'train'",
        [f"{how}({quoted(name)})" for name in schema.names for how in ("count", "min", "max")],
    )
    numbers = schema.numeric
    infinite = _facts(
        con, "", [f"count_if(isinf(CAST({quoted(name)} AS FLOAT)))" for name in numbers]
    )
    infinite_faults = [
        f"feature {name!r} is infinite as a 32-bit number in {rows} rows; "
        "guard the division in its SQL (nullif)"
        for name, rows in zip(numbers, infinite[1:], strict=True)
        if rows
    ]
    findings: list[FeatureFinding] = []
    train_rows, *each = facts
    for name, known, lowest, highest in zip(
        schema.names, each[::3], each[1::3], each[2::3], strict=True
    ):
        if not known:
            findings.append(FeatureFinding(name, "null in every training row"))
        elif lowest == highest:
            gaps = "" if known == train_rows else " or null"
            findings.append(FeatureFinding(name, f"always {lowest}{gaps} in training"))
    return tuple(findings), infinite_faults


def _facts(con: "duckdb.DuckDBPyConnection", where: str, expressions: list[str]) -> tuple[Any, ...]:
    """Return the number of rows and the given aggregates over them."""
    row = con.execute(
        f"SELECT {', '.join(['count(*)', *expressions])} FROM {JOINED} {where}"
    ).fetchone()
    if row is None:
        raise TrainingSetError(f"{JOINED} could not be examined: it gave no row")
    return tuple(row)
