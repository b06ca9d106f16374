"""What a champion meets and how well it does, day by day: drift, performance, and the decision.

The three are one step, because the decision is made of the others and they read the same rows.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.daily import Days, days_of, looking_back, window_of
from mlops_assets.orchestration.loop import LOOP_TAGS
from mlops_assets.orchestration.model_family.predicting import predictions_key
from mlops_assets.orchestration.model_family.retraining import training_state
from mlops_assets.orchestration.model_family.steps import (
    family_step,
    hash_of,
    key_of,
    platform_of,
    spec_of,
)
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    from mlops_assets.monitoring.decision import MetricEvidence
    from mlops_assets.orchestration.platform import Platform
    from mlops_assets.production.evaluating import EvaluatedDay

_NO_DRIFT = "no_drift"
_HOLDS = "performance_holds"
_ARRIVE = "labels_arrive"
_PLOTTED_DAYS = 92
_MAPPED_COLUMNS = 20
_NAMED = 5  # features that a check's sentence names


def decision_key(family: ModelFamily) -> dg.AssetKey:
    """Return the asset of a family's retraining decisions."""
    return key_of(family, "retraining_decision")


def monitoring(family: ModelFamily, views: FeatureRegistry, days: Days) -> dg.AssetsDefinition:
    """Give the assets of drift, performance and the retraining decision."""
    policy = family.monitoring
    partitions = days.partitions()
    longest = policy.windows[-1]
    of_predictions = dg.AssetDep(
        predictions_key(family),
        partition_mapping=looking_back(longest + policy.label_due.days + 1),
    )
    label = asset_metadata.asset_key(TableName.parse(family.label.table))
    shared: dict[str, Any] = {
        "fail_after": policy.fail_after,
        "partitions_def": partitions,
        "code_version": hash_of(family, "monitoring", "retraining", "slices", "label"),
        "tags": LOOP_TAGS,
    }
    windows = ", ".join(map(str, policy.windows))
    drift = spec_of(
        family,
        key_of(family, "drift"),
        f"How far features, predictions and labels of {family.name} are from what the champion "
        f"learnt, over windows of {windows} days; rows of monitoring/drift.",
        deps=[of_predictions, label],
        kinds={"duckdb", "delta"},
        metadata={"dagster/table_name": "monitoring/drift"},
        **shared,
    )
    performance = spec_of(
        family,
        key_of(family, "performance"),
        f"How well {family.name} does: realised where labels were due, estimated before, by slice, "
        "each with its interval; rows of monitoring/performance and monitoring/labels.",
        deps=[of_predictions, label],
        kinds={"duckdb", "delta"},
        metadata={"dagster/table_name": "monitoring/performance"},
        **shared,
    )
    decision = spec_of(
        family,
        decision_key(family),
        f"Whether to train {family.name} again, and every reason for and against it; rows of "
        "monitoring/retraining_decisions. A sensor acts on the newest.",
        deps=[drift.key, performance.key],
        kinds={"python", "delta"},
        metadata={"dagster/table_name": "monitoring/retraining_decisions"},
        **shared,
    )
    checks = {
        drift.key: {
            _NO_DRIFT: ("Few features drifted on the newest day, and no prediction did.", False)
        },
        performance.key: {
            _HOLDS: ("It is not worse than when it was chosen, beyond chance.", False),
            _ARRIVE: ("Labels are there when they are due.", False),
        },
    }

    @family_step(family, [drift, performance, decision], checks)
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.errors import NoChampionError
        from mlops_assets.production.evaluating import evaluate_day, over

        platform = platform_of(context)
        found: EvaluatedDay | None = None
        for day in days_of(window_of(context)):
            now = datetime.now(UTC)
            training = training_state(context.instance, family)
            try:
                found = evaluate_day(
                    platform.lake,
                    platform.registry,
                    family,
                    views,
                    day,
                    evaluation=context.run.run_id,
                    as_of=min(over(day), now),
                    at=now,
                    last_started=training.last_started,
                    in_progress=training.underway is not None,
                )
            except NoChampionError as error:
                raise dg.Failure(str(error), allow_retries=False) from error
            context.log.info("%s: %s", day, found.decision.summary)
            for key, numbers in (
                (drift.key, _drift_numbers(found)),
                (performance.key, _performance_numbers(found)),
                (decision.key, _decision_numbers(found)),
            ):
                context.add_asset_metadata(numbers, asset_key=key, partition_key=day.isoformat())
        if found is None:
            raise dg.DagsterInvariantViolationError("the run has no day")
        for key, shown in (
            (drift.key, _drift_pictures(platform, family, found.day)),
            (performance.key, _performance_pictures(platform, family, found)),
            (decision.key, {"decision": found.decision.summary}),
        ):
            asset_metadata.say_once(context, key, shown)
        for key in (drift.key, performance.key, decision.key):
            yield dg.MaterializeResult(
                asset_key=key, data_version=dg.DataVersion(context.run.run_id)
            )
        yield _no_drift(drift.key, found, family)
        yield _performance_holds(performance.key, found, family)
        yield _labels_arrive(performance.key, found, family)

    return step


# What a day's materialisation says ----------------------------------------------------------------


def _drift_numbers(found: "EvaluatedDay") -> dict[str, Any]:
    from mlops_assets.monitoring.profile import Subject

    features = found.drift_of(Subject.feature)
    return {
        "model": found.model,
        "state": features.report.state,
        "rows": features.report.rows,
        "drifted_features": len(features.report.drifted),
        "drifted_predictions": len(found.drift_of(Subject.prediction).report.drifted),
        "drifted_labels": len(found.drift_of(Subject.label).report.drifted),
        "drifted_share": features.report.drifted_share,
        **(
            {"reconstruction_change": features.reconstruction.value}
            if features.reconstruction is not None
            else {}
        ),
    }


def _performance_numbers(found: "EvaluatedDay") -> dict[str, Any]:
    longest = max(found.performance.labels)
    labels = found.performance.labels[longest]
    numbers: dict[str, Any] = {
        "model": found.model,
        "labels_due_until": found.performance.mature.isoformat(),
        "predictions": labels.predictions,
        "labelled": labels.labelled,
        "overdue_labels": labels.overdue,
        "seconds": round(found.seconds, 3),
    }
    if found.no_estimate:
        numbers["no_estimate"] = found.no_estimate
    for one in found.performance.performances:
        if one.window_days == longest and one.slice_column is None and one.found.value is not None:
            numbers[f"{one.kind}_{one.metric}"] = one.found.value
    return numbers


def _decision_numbers(found: "EvaluatedDay") -> dict[str, Any]:
    decision = found.decision
    numbers = {
        name: getattr(decision, name)
        for name in ("age_days", "data_age_days", "new_rows", "drifted_share", "realised_drop",
                     "estimated_drop", "training_minutes")
    }  # fmt: skip
    return {
        "retrain": decision.retrain,
        "reasons_for": "; ".join(decision.reasons_for) or "none",
        "reasons_against": "; ".join(decision.reasons_against) or "none",
        **{name: value for name, value in numbers.items() if value is not None},
    }


def _drift_pictures(platform: "Platform", family: ModelFamily, day: date) -> dict[str, Any]:
    from mlops_assets.monitoring.pictures import drift_map
    from mlops_assets.monitoring.profile import Subject
    from mlops_assets.production.trends import decision_marks, drift_trend
    from mlops_assets.training.pictures import png

    shortest = family.monitoring.windows[0]
    values = drift_trend(platform.lake, family, Subject.feature, shortest, day, _PLOTTED_DAYS)
    marks = decision_marks(platform.lake, family, day, _PLOTTED_DAYS)
    return {
        "drift_over_time": asset_metadata.picture(
            png(drift_map(values, marks=marks, most=_MAPPED_COLUMNS), width=6.4, height=4.2),
            f"Drift of the features of {family.name} by day, as a share of its threshold",
        )
    }


def _performance_pictures(
    platform: "Platform", family: ModelFamily, found: "EvaluatedDay"
) -> dict[str, Any]:
    from mlops_assets.monitoring.pictures import performance_over_time
    from mlops_assets.production.trends import performance_trend
    from mlops_assets.training.pictures import png

    reference = None if found.realised is None else found.realised.reference
    shown = {}
    for length in (family.monitoring.windows[0], family.monitoring.windows[-1]):
        trend = performance_trend(
            platform.lake, family, family.primary_metric, length, found.day, _PLOTTED_DAYS
        )
        plot = performance_over_time(
            trend.realised,
            trend.estimated,
            f"{family.primary_metric}, {length} d",
            reference=reference,
            marks=trend.marks,
        )
        shown[f"{family.primary_metric}_over_{length}_days"] = asset_metadata.picture(
            png(plot), f"{family.primary_metric} of {family.name}, realised and estimated, by day"
        )
    return shown


# Checks -------------------------------------------------------------------------------------------


def _warn(
    key: dg.AssetKey, name: str, passed: bool, description: str, **numbers: float
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=numbers,
    )


def _no_drift(key: dg.AssetKey, found: "EvaluatedDay", family: ModelFamily) -> dg.AssetCheckResult:
    from mlops_assets.monitoring.drift import COMPARED
    from mlops_assets.monitoring.profile import Subject

    features = found.drift_of(Subject.feature).report
    if features.state != COMPARED:
        said = f"{found.day}: {features.state} ({features.rows:,}), so nothing was judged"
        return _warn(key, _NO_DRIFT, True, said)
    answers = found.drift_of(Subject.prediction).report.drifted
    much = features.drifted_share >= family.retraining.drifted_features
    said = f"{found.day}: {len(features.drifted)} of {len(features.columns)} features drifted"
    if features.drifted:
        said += f", such as {', '.join(features.drifted[:_NAMED])}"
    if answers:
        said += "; the predictions drifted"
    return _warn(
        key, _NO_DRIFT, not much and not answers, said, drifted_share=features.drifted_share
    )


def _performance_holds(
    key: dg.AssetKey, found: "EvaluatedDay", family: ModelFamily
) -> dg.AssetCheckResult:
    policy = family.retraining
    worse, said = False, []
    for kind, evidence, allowed in (
        ("realised", found.realised, policy.metric_drop),
        ("estimated", found.estimated, policy.estimated_drop),
    ):
        if evidence is None:
            continue
        said.append(f"{kind} {_compared(evidence)}")
        certain = evidence.certain_drop
        worse = worse or (allowed is not None and certain is not None and certain > allowed)
    return _warn(key, _HOLDS, not worse, "; ".join(said) or "there is nothing to compare yet")


def _compared(evidence: "MetricEvidence") -> str:
    return f"{evidence.metric} {evidence.now}, {evidence.reference:.4f} when it was chosen"


def _labels_arrive(
    key: dg.AssetKey, found: "EvaluatedDay", family: ModelFamily
) -> dg.AssetCheckResult:
    length, labels = max(found.performance.labels.items())
    share = labels.overdue / labels.predictions if labels.predictions else 0.0
    said = (
        f"of {labels.predictions:,} predictions of the {length} days until "
        f"{found.performance.mature}, {labels.labelled:,} have a label, {labels.never:,} will get "
        f"none, {labels.overdue:,} are overdue; {labels.repeated:,} came more than once, "
        f"{labels.changed:,} changed"
    )
    return _warn(key, _ARRIVE, share <= family.monitoring.max_overdue, said, overdue_share=share)
