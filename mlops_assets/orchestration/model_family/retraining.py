"""Training a family again: the job that does it, and the sensor that sees when it is due.

The daemon judges the champion's freshness by the family's retraining policy. The sensor reads that
judgement and asks for one run of the job, with the reason as a tag of the run.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState  # no public name gives its values

from mlops_assets.orchestration.model_family.steps import key_of
from mlops_assets.training.family import ModelFamily

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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


def _sensor(family: ModelFamily) -> dg.SensorDefinition:
    champion = key_of(family, "champion")

    @dg.sensor(
        name=f"{family.name}_retraining",
        job_name=training_job_name(family),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Has {family.name} trained again when its champion is stale.",
    )
    def retraining(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        instance = context.instance
        decided = instance.get_latest_materialization_event(champion)
        if decided is None:
            return dg.SkipReason(
                f"{champion.to_user_string()} was never materialised, so there is nothing to train "
                f"again; run the job {training_job_name(family)} once"
            )
        decided_at = datetime.fromtimestamp(decided.timestamp, UTC)
        record = instance.get_freshness_state_records([champion]).get(champion)
        state = record.freshness_state if record else FreshnessState.UNKNOWN
        said = f"the gate last decided on {decided_at:%Y-%m-%d %H:%M} UTC"
        if state != FreshnessState.FAIL:
            return dg.SkipReason(f"{champion.to_user_string()} is {state.value}: {said}")
        underway = _underway(instance, champion)
        if underway is not None:
            return dg.SkipReason(f"{said}, and run {underway} is to make a new one")
        wait, tried = _last_tries(instance, family, decided.timestamp)
        if wait is not None:
            return dg.SkipReason(f"{said}; {wait}")
        reason = f"stale: {said}, longer ago than {family.retraining.max_age}"
        context.log.info("%s is to be trained again. %s", family.name, reason)
        return dg.RunRequest(
            # One run for one stale champion, however many ticks see it; a run that failed is
            # followed by another, with a key of its own, after the cooldown.
            run_key=f"{family.name}:{decided.timestamp}:{tried}",
            tags={"mlops/family": family.name, "mlops/reason": reason},
        )

    return retraining


def _underway(instance: dg.DagsterInstance, champion: dg.AssetKey) -> str | None:
    """Return the run that is going to make the champion, if there is one."""
    planned = instance.get_latest_planned_materialization_info(champion)
    if planned is None:
        return None
    wanted = dg.RunsFilter(run_ids=[planned.run_id], statuses=_UNFINISHED)
    return planned.run_id if instance.get_run_ids(wanted, limit=1) else None


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
