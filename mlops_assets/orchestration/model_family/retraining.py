"""Training a family again: the job that does it, and the sensor that sees when it is due.

The daemon judges the champion's freshness by the family's retraining policy, and monitoring decides
day by day. The sensor reads both and asks for one run of the job, with the reasons as a tag of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState  # no public name gives its values

from mlops_assets.orchestration.model_family.steps import key_of
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    from mlops_assets.production.decisions import KeptDecision

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""States of a run that may still make something."""


def training_job_name(family: ModelFamily) -> str:
    """Return the name of the job that trains a family."""
    return f"train_{family.name}"


def retraining_defs(family: ModelFamily, assets: Sequence[dg.AssetsDefinition]) -> dg.Definitions:
    """Give the job that makes all assets of a family, and the sensor that starts it when due.

    Parameters
    ----------
    family
        The declaration; its ``retraining`` says when.
    assets
        All assets of the family, from the training set to the champion.
    """
    job = dg.define_asset_job(
        training_job_name(family),
        selection=dg.AssetSelection.assets(*assets),
        description=f"Train {family.name} on the tables as they are now, and let the gate decide.",
        tags={"mlops/family": family.name},
    )
    return dg.Definitions(jobs=[job], sensors=[_sensor(family)])


@dataclass(frozen=True)
class TrainingState:
    """What is known of the trainings of a family.

    Attributes
    ----------
    underway
        The run that is going to make the champion; None where there is none.
    last_started
        When the newest run that was to make the champion began, whatever came of it; None where
        there was none.
    """

    underway: str | None = None
    last_started: datetime | None = None


def training_state(instance: dg.DagsterInstance, family: ModelFamily) -> TrainingState:
    """Return what the instance knows of the trainings of a family, by whichever job."""
    planned = instance.get_latest_planned_materialization_info(key_of(family, "champion"))
    record = None if planned is None else instance.get_run_record_by_id(planned.run_id)
    if record is None:
        return TrainingState()
    began = record.create_timestamp
    if record.start_time is not None:
        began = datetime.fromtimestamp(record.start_time, UTC)
    unfinished = record.dagster_run.status in UNFINISHED
    return TrainingState(record.dagster_run.run_id if unfinished else None, began)


def gate_decided(instance: dg.DagsterInstance, family: ModelFamily) -> float | None:
    """Return when the gate last decided, in seconds since 1970; None where it never did."""
    # A third of the time of `get_latest_materialization_event`, in every tick of every family.
    found = instance.fetch_materializations(key_of(family, "champion"), limit=1).records
    return found[0].timestamp if found else None


def _sensor(family: ModelFamily) -> dg.SensorDefinition:
    champion = key_of(family, "champion")

    @dg.sensor(
        name=f"{family.name}_retraining",
        job_name=training_job_name(family),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE_KEY},
        description=f"Has {family.name} trained again when its champion is stale, or when the "
        "newest retraining decision says so.",
    )
    def retraining(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        instance = context.instance
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        decided = gate_decided(instance, family)
        if decided is None:
            return dg.SkipReason(
                f"{champion.to_user_string()} was never materialised, so there is nothing to train "
                f"again; run the job {training_job_name(family)} once"
            )
        decided_at = datetime.fromtimestamp(decided, UTC)
        record = instance.get_freshness_state_records([champion]).get(champion)
        state = record.freshness_state if record else FreshnessState.UNKNOWN
        newest = platform.decisions.of(family.name)
        reasons = []
        if state == FreshnessState.FAIL:
            reasons.append(
                f"stale: the gate last decided on {_shown(decided_at)}, longer ago than "
                f"{family.retraining.max_age}"
            )
        if newest is not None and newest.retrain and newest.evaluated_at > decided_at:
            reasons.append(f"decision for {newest.summary}")
        if not reasons:
            return dg.SkipReason(
                f"{champion.to_user_string()} is {state.value}: the gate last decided on "
                f"{_shown(decided_at)}; {_said_of(newest, decided_at)}"
            )
        reason = "; ".join(reasons)
        underway = training_state(instance, family).underway
        if underway is not None:
            return dg.SkipReason(f"{reason}; run {underway} is to make a new champion")
        wait, tried = _last_tries(instance, family, decided)
        if wait is not None:
            return dg.SkipReason(f"{reason}; {wait}")
        context.log.info("%s is to be trained again. %s", family.name, reason)
        return dg.RunRequest(
            # One run to follow one gate decision, whichever reasons ask for it and however many
            # ticks see them; one that failed is followed by another, with a key of its own, after
            # the cooldown.
            run_key=f"{family.name}:{decided}:{tried}",
            tags={"mlops/family": family.name, "mlops/reason": reason},
        )

    return retraining


def _said_of(newest: "KeptDecision | None", decided_at: datetime) -> str:
    if newest is None:
        return "no day has been evaluated yet"
    if newest.retrain and newest.evaluated_at <= decided_at:
        return f"it has followed the decision for {newest.summary}"
    return f"decision for {newest.summary}"


def _shown(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _last_tries(
    instance: dg.DagsterInstance, family: ModelFamily, since: float
) -> tuple[str | None, int]:
    """Return why to wait after the last run of the job, if so, and how many runs there were.

    Parameters
    ----------
    since
        Runs created before it belong to an earlier champion; seconds since 1970.
    """
    runs = instance.get_run_records(
        dg.RunsFilter(
            job_name=training_job_name(family), created_after=datetime.fromtimestamp(since, UTC)
        )
    )
    ends = [datetime.fromtimestamp(run.end_time, UTC) for run in runs if run.end_time]
    if not ends:
        return None, len(runs)
    again = max(ends) + family.retraining.cooldown
    waiting = (
        f"the last of {len(runs)} runs since then ended without a new decision, and the next may "
        f"start at {again:%Y-%m-%d %H:%M} UTC"
    )
    return (waiting if _now() < again else None), len(runs)


def _now() -> datetime:
    return datetime.now(UTC)
