"""What evaluations of a model version compare with: made once, from what it learnt, and kept.

All of it comes from the version's training set, which stays pinned, and from the answers that its
run recorded, as far as the labels were known when it is made: where history is lived again, the
test part may lie ahead. Thresholds follow from it, so it never changes while the version exists.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.features.identifiers import quote
from mlops_assets.lake import Lake
from mlops_assets.monitoring import MonitoringError
from mlops_assets.monitoring.estimated import PerformanceEstimator, fit_estimator
from mlops_assets.monitoring.profile import ReferenceProfile, Subject, profile_reference
from mlops_assets.monitoring.reconstruction import Reconstruction, fit_reconstruction
from mlops_assets.monitoring.tables import keep_reference, kept_references
from mlops_assets.registry.evaluations import evaluations_of
from mlops_assets.training.dataset import FeatureSchema, feature_schema, learnt_task
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.tasks import Binary, Task, task_from

if TYPE_CHECKING:
    import duckdb

    from mlops_assets.registry import ModelVersion, Registry
    from mlops_assets.training.evaluation import Evaluation

_LEARNT = "learnt"
_RECONSTRUCTION = "reconstruction"
_ESTIMATOR = "estimator"
_TABLE = "reference_rows"
_ANSWERS = "reference_answers"
_UNSEEN = ("validation", "test")  # parts whose recorded answers are of rows not learnt from


@dataclass(frozen=True)
class Learnt:
    """What a version learnt from, as far as evaluations need it.

    Attributes
    ----------
    schema
        Its features.
    task
        With its classes.
    newest_row
        When the newest label of the rows that it learnt from became known.
    newest_known
        The same of all its training set, the test part included: what came later is new.
    judged_on
        The part on which it is known how well it does: `test`, or `validation` where the labels of
        the test part were not all known yet.
    training_took
        Time that fitting all candidates of its training took.
    no_estimate
        Why its performance cannot be estimated without labels; empty where it can.
    """

    schema: FeatureSchema
    task: Task
    newest_row: datetime
    newest_known: datetime
    judged_on: str
    training_took: timedelta
    no_estimate: str

    def to_json(self) -> str:
        """Return it as JSON."""
        content: dict[str, Any] = {
            "names": self.schema.names,
            "categorical": self.schema.categorical,
            "task": self.task.state(),
            "newest_row": self.newest_row.isoformat(),
            "newest_known": self.newest_known.isoformat(),
            "judged_on": self.judged_on,
            "training_took": self.training_took.total_seconds(),
            "no_estimate": self.no_estimate,
        }
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Learnt":
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(
            FeatureSchema(tuple(raw["names"]), tuple(raw["categorical"])),
            task_from(raw["task"]),
            datetime.fromisoformat(raw["newest_row"]),
            datetime.fromisoformat(raw["newest_known"]),
            raw["judged_on"],
            timedelta(seconds=raw["training_took"]),
            raw["no_estimate"],
        )


@dataclass(frozen=True)
class ModelReferences:
    """What evaluations of one version compare with.

    Attributes
    ----------
    learnt
        What it learnt from.
    profiles
        Of the features and labels that it learnt from, and of its answers to rows that it did not.
    reconstruction
        Of all numeric features together; None where fewer than two vary.
    estimator
        Of its performance; None where there is none, as ``learnt.no_estimate`` says.
    """

    learnt: Learnt
    profiles: Mapping[Subject, ReferenceProfile]
    reconstruction: Reconstruction | None
    estimator: PerformanceEstimator | None


def references_of(
    lake: Lake, registry: "Registry", family: ModelFamily, version: "ModelVersion", now: datetime
) -> ModelReferences:
    """Return what evaluations of a version compare with; make and keep it the first time.

    Parameters
    ----------
    lake, registry
        Hold its training set, and what its run recorded.
    family, version
        Whose.
    now
        Kept with what is made; labels that became known later have no part in it. With a zone.

    Raises
    ------
    MonitoringError
        When its training set has rows of no use.
    mlops_assets.registry.RegistryError
        When its run recorded no evaluation.
    mlops_assets.lake.LakeError
        When its training set is gone.
    """
    kept = kept_references(lake, family.name, version.version)
    # What was learnt is kept last, so that it stands for all.
    if _LEARNT not in kept:
        for kind, content in _make(lake, registry, family, version, now).items():
            keep_reference(lake, family.name, version.version, kind, content, now)
        kept = kept_references(lake, family.name, version.version)
    reconstruction, estimator = kept.get(_RECONSTRUCTION), kept.get(_ESTIMATOR)
    return ModelReferences(
        Learnt.from_json(kept[_LEARNT]),
        {subject: ReferenceProfile.from_json(kept[subject]) for subject in Subject},
        None if reconstruction is None else Reconstruction.from_json(reconstruction),
        None if estimator is None else PerformanceEstimator.from_json(estimator),
    )


def _make(
    lake: Lake, registry: "Registry", family: ModelFamily, version: "ModelVersion", now: datetime
) -> dict[str, str]:
    """Make everything, as JSON by kind."""
    table = version.training_set.table
    evaluations = evaluations_of(registry.client, version.run_id)
    with lake.connect(versions={table: version.training_set.version}, tables=[table]) as con:
        schema = feature_schema(con, table.sql, family)
        task = learnt_task(con, table.sql, family)
        con.execute(f"CREATE TEMP TABLE {_TABLE} AS FROM {table.sql} WHERE split <> 'test'")
        _add_answers(con, table.sql, family, task, evaluations)
        con.execute(f"DELETE FROM {_ANSWERS} WHERE label_available_at > $now", {"now": now})

        def profile(subject: Subject, relation: str, columns: Sequence[str], parts: str) -> str:
            return profile_reference(
                con,
                relation,
                columns,
                subject=subject,
                source=f"{version}: {version.training_set} ({parts})",
                versions={str(table): version.training_set.version},
                day="split_day",
            ).to_json()

        made = {
            Subject.feature.value: profile(
                Subject.feature, _TABLE, schema.names, "train and validation"
            ),
            Subject.label.value: profile(Subject.label, _TABLE, ["label"], "train and validation"),
            Subject.prediction.value: profile(
                Subject.prediction, _ANSWERS, task.outputs, " and ".join(_UNSEEN)
            ),
        }
        reconstruction = fit_reconstruction(con, _TABLE, schema.names, day="split_day")
        if reconstruction is not None:
            made[_RECONSTRUCTION] = reconstruction.to_json()
        estimator, no_estimate = _estimator(con, task, version)
        if estimator is not None:
            made[_ESTIMATOR] = estimator.to_json()
        [(newest_row, newest_known, ahead)] = con.execute(
            f"""
            SELECT max(label_available_at) FILTER (split <> 'test'),
                max(label_available_at) FILTER (label_available_at <= $now),
                count_if(split = 'test' AND label_available_at > $now)
            FROM {table.sql}
            """,
            {"now": now},
        ).fetchall()
    took = sum(
        logged.metrics.get("fit_seconds", 0.0)
        for logged in registry.candidates(family.name, version.training_set)
    )
    judged_on = "validation" if ahead else "test"
    learnt = Learnt(
        schema, task, newest_row, newest_known, judged_on, timedelta(seconds=took), no_estimate
    )
    return {**made, _LEARNT: learnt.to_json()}


def _add_answers(
    con: "duckdb.DuckDBPyConnection",
    training_set: str,
    family: ModelFamily,
    task: Task,
    evaluations: "Mapping[str, Evaluation]",
) -> None:
    """Make the table of what the model answered to rows that it had not learnt from."""
    import pyarrow as pa

    order = ", ".join(map(quote, ("prediction_time", *family.spine.entity)))
    tables = []
    for part in _UNSEEN:
        rows = con.sql(
            f"SELECT split, split_day, label, label_available_at FROM {training_set} "
            f"WHERE split = $part ORDER BY {order}",
            params={"part": part},
        ).to_arrow_table()
        given = evaluations[part].answers.reshape(len(evaluations[part].answers), -1)
        if len(given) != len(rows):
            raise MonitoringError(
                f"{family.name}: the {part} part of {training_set} has {len(rows)} rows, and "
                f"{len(given)} answers were recorded; train it again"
            )
        for place, column in enumerate(task.outputs):
            rows = rows.append_column(column, pa.array(np.ascontiguousarray(given[:, place])))
        tables.append(rows)
    con.register("recorded_answers", pa.concat_tables(tables))
    con.execute(f"CREATE TEMP TABLE {_ANSWERS} AS FROM recorded_answers")
    con.unregister("recorded_answers")


def _estimator(
    con: "duckdb.DuckDBPyConnection", task: Task, version: "ModelVersion"
) -> tuple[PerformanceEstimator | None, str]:
    """Make the estimator from validation, or say why there is none."""
    if not isinstance(task, Binary):
        return None, f"a {task.name} task has no estimate without labels"
    [column] = task.outputs
    rows = con.sql(
        f"SELECT label, split_day, {quote(column)} AS answer FROM {_ANSWERS} "
        "WHERE split = 'validation'"
    ).to_arrow_table()
    try:
        made = fit_estimator(
            task,
            task.encode(rows["label"]),
            rows["answer"].to_numpy(),
            rows["split_day"].to_numpy(),
            threshold=version.threshold,
            source=f"{version}: {version.training_set} (validation)",
        )
    except MonitoringError as error:
        # Too few labels of a class: realised performance and drift can be watched all the same.
        return None, str(error)
    return made, ""
