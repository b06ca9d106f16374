"""Taking a champion back: the decision as an asset, the sensor that acts on it, the job that does.

The metric is judged day by day, with monitoring; errors and latency whenever the model server has
shipped new requests. Either way a run of one job rolls back, with the reason as a tag, and the same
job does it by hand.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

import dagster as dg
from pydantic import Field

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.daily import Days, days_of, window_of
from mlops_assets.orchestration.loop import LOOP_TAGS
from mlops_assets.orchestration.model_family.predicting import predictions_key
from mlops_assets.orchestration.model_family.steps import (
    family_step,
    hash_of,
    key_of,
    platform_of,
    spec_of,
)
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.production.errors import ProductionError
from mlops_assets.production.incidents import Incident
from mlops_assets.production.rollback import (
    RollbackDecision,
    judge_rollback,
    measure_rollback,
    measure_service_limits,
    roll_back,
    roll_back_by_hand,
)
from mlops_assets.production.rollback.recording import (
    RecordedDecision,
    decision_named,
    newest_decision,
    record_decision,
)
from mlops_assets.training.family import ModelFamily

_HOLDS = "no_limit_broken"


def rollback_job_name(family: ModelFamily) -> str:
    """Return the name of the job that rolls a family back."""
    return f"roll_back_{family.name}"


def rollback_decision(
    family: ModelFamily, views: FeatureRegistry, days: Days
) -> dg.AssetsDefinition:
    """Give the asset of a family's rollback decisions, one for each evaluated day."""
    spec = spec_of(
        family,
        key_of(family, "rollback_decision"),
        f"Whether the champion of {family.name} is to give way to the version before, with every "
        "reason for and against; rows of monitoring/rollback_decisions. A sensor acts on the "
        "newest.",
        fail_after=family.monitoring.fail_after,
        deps=[
            predictions_key(family),
            asset_metadata.asset_key(TableName.parse(family.label.table)),
        ],
        kinds={"python", "delta"},
        partitions_def=days.partitions(),
        code_version=hash_of(family, "rollback", "label", "primary_metric"),
        metadata={"dagster/table_name": "monitoring/rollback_decisions"},
        tags=LOOP_TAGS,
    )
    says = "The champion breaks none of the limits that are declared for it."

    @family_step(family, [spec], {spec.key: {_HOLDS: (says, False)}})
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.evaluating import over

        platform = platform_of(context)
        # It is about who serves now: of a range of days, the last one tells.
        *_, day = days_of(window_of(context))
        now = datetime.now(UTC)
        situation = measure_rollback(
            platform.lake, platform.registry, family, views, day, min(over(day), now), at=now
        )
        decision = judge_rollback(situation, family.rollback)
        record_decision(platform.lake, decision, day, context.run.run_id, now)
        context.log.info("%s: %s", day, decision.summary)
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={"day": day.isoformat(), **_numbers(decision)},
            data_version=dg.DataVersion(context.run.run_id),
        )
        yield dg.AssetCheckResult(
            asset_key=spec.key,
            check_name=_HOLDS,
            passed=not decision.breaches,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{day}: {decision.summary}",
        )

    return step


def _numbers(decision: RollbackDecision) -> dict[str, Any]:
    found = {
        "champion": decision.champion,
        "target": decision.target,
        "error_rate": decision.error_rate,
        "slow_share": decision.slow_share,
        **({} if decision.comparison is None else asdict(decision.comparison)),
    }
    return {
        "roll_back": decision.roll_back,
        "decision": decision.summary,
        **{name: value for name, value in found.items() if value is not None},
    }


def rollback_defs(family: ModelFamily) -> dg.Definitions:
    """Give the job that rolls a family back; and the sensor that asks for it, if a limit is set."""
    return dg.Definitions(
        jobs=[_job(family)], sensors=[_sensor(family)] if family.rollback.is_automatic else []
    )


# The job ------------------------------------------------------------------------------------------


class RollBack(dg.Config):
    """What is to be rolled back, and why."""

    reason: str = Field(default="", description="Why; it goes into ledger and incident.")
    version: int | None = Field(
        default=None, description="Version that is to serve. Default: who served before."
    )
    actor: str = Field(default="", description="Who asks. Default: this run.")
    decision: str = Field(
        default="", description="Name of the decision to follow; given by the sensor."
    )


def _job(family: ModelFamily) -> dg.JobDefinition:
    @dg.op(
        name=f"{rollback_job_name(family)}_op",
        required_resource_keys={RESOURCE_KEY},
        description="Make the version that served before champion again, and record an incident.",
    )
    def step(context: dg.OpExecutionContext, config: RollBack) -> None:
        from mlops_assets.registry import RegistryError

        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        try:
            incident = _rolled_back(platform, family, config, f"dagster run {context.run_id}")
        except (ProductionError, RegistryError) as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.log.info("%s %s", incident.what, incident.done)
        # An observation: a materialisation would make a champion that is older look fresh.
        context.log_event(
            dg.AssetObservation(
                key_of(family, "champion"),
                metadata={
                    "champion": platform.registry.find(f"{family.name}@champion").version,
                    "incident": incident.incident_id,
                    "what": incident.what,
                    "done": incident.done,
                },
            )
        )

    @dg.job(
        name=rollback_job_name(family),
        description=f"Roll {family.name} back: the version that served before serves again.",
        tags={"mlops/family": family.name},
    )
    def job() -> None:
        step()

    return job


def _rolled_back(platform: Platform, family: ModelFamily, config: RollBack, run: str) -> Incident:
    """Follow a decision, or do what somebody asks for by hand."""
    lake, registry = platform.lake, platform.registry
    if config.decision:
        return roll_back(lake, registry, family, decision_named(lake, config.decision))
    if not config.reason.strip():
        raise ProductionError(
            f"{family.name}: say why it is to be rolled back, as `reason` of the op's config"
        )
    _, incident = roll_back_by_hand(
        lake,
        registry,
        family.name,
        actor=config.actor or run,
        reason=config.reason,
        to=config.version,
    )
    return incident


# The sensor ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """What the sensor knows: the decision it asked for last, and the requests it has judged."""

    decision: str = ""
    requests: int = -1

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        return cls(**json.loads(cursor)) if cursor else cls()


def _sensor(family: ModelFamily) -> dg.SensorDefinition:
    job_name = rollback_job_name(family)

    @dg.sensor(
        name=f"{family.name}_rollback",
        job_name=job_name,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE_KEY},
        description=f"Has {family.name} rolled back when its champion breaks a declared limit.",
    )
    def rollback(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        before = _Seen.of(context.cursor)
        seen, by_service = _judged_service(platform, family, before)
        newest = by_service or newest_decision(platform.lake, family.name)
        cursor = json.dumps(asdict(seen))
        if newest is None:
            return dg.SensorResult(skip_reason="nothing was judged yet", cursor=cursor)
        said = f"{newest.day}: {newest.decision.summary}"
        if not newest.decision.roll_back:
            return dg.SensorResult(skip_reason=said, cursor=cursor)
        if newest.name == before.decision:
            asked = f"run of {job_name} was asked for; {said}"
            return dg.SensorResult(skip_reason=asked, cursor=cursor)
        context.log.info("%s", said)
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    # One run for one decision, however many ticks see it.
                    run_key=newest.name,
                    run_config={"ops": {f"{job_name}_op": {"config": {"decision": newest.name}}}},
                    tags={
                        "mlops/family": family.name,
                        "mlops/reason": "; ".join(newest.decision.breaches),
                    },
                )
            ],
            cursor=json.dumps(asdict(replace(seen, decision=newest.name))),
        )

    return rollback


def _judged_service(
    platform: Platform, family: ModelFamily, seen: _Seen
) -> tuple[_Seen, RecordedDecision | None]:
    """Judge errors and latency if there are new requests; record the decision if it is to act."""
    lake, table = platform.lake, TableName("inference", family.name)
    if not family.rollback.watches_service or not lake.exists(table):
        return seen, None
    version = lake.version(table)
    if version == seen.requests:
        return seen, None
    now = datetime.now(UTC)
    situation = measure_service_limits(lake, platform.registry, family, now)
    decision = judge_rollback(situation, family.rollback)
    judged = replace(seen, requests=version)
    if not decision.roll_back:
        return judged, None
    # The same requests judged again, by a tick that is repeated, are the same decision.
    record_decision(lake, decision, now.date(), f"requests-{version}", now)
    return judged, newest_decision(lake, family.name)
