"""Comparing the candidates, and letting a challenger serve or not."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import dagster as dg

from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.model_family.steps import (
    family_step,
    hash_of,
    key_of,
    newest_training_set,
    platform_of,
    spec_of,
    training_set_key,
)
from mlops_assets.training.family import ModelFamily


def evaluation(family: ModelFamily) -> dg.AssetsDefinition:
    """Give the asset of the comparison of all candidates."""
    spec = spec_of(
        family,
        key_of(family, "evaluation"),
        f"The candidates of {family.name} side by side on untouched rows: metrics with intervals, "
        "slices, curves, searches; one HTML report that works offline, to which the explanation "
        "adds its chapters.",
        deps=[
            training_set_key(family),
            *(key_of(family, candidate.name) for candidate in family.candidates),
        ],
        kinds={"python", "html"},
        code_version=hash_of(family, "candidates", "slices", "threshold"),
    )
    says = "The best candidate is better than the trivial baseline."

    @family_step(family, [spec], {spec.key: {"beats_baseline": (says, False)}})
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.comparing import (
            compare_candidates,
            report_path,
        )
        from mlops_assets.training.report import pictures_as_markdown, write_report

        platform = platform_of(context)
        training_set = newest_training_set(platform, family)
        comparison, chosen = compare_candidates(platform, family, training_set)
        report = write_report(comparison, report_path(platform, family))
        platform.registry.attach(chosen.run_id, report)
        best = comparison.best.test
        metric = best.task.metric(family.primary_metric)
        baseline = comparison.baseline.value(metric.name)
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                "best_candidate": chosen.name,
                **best.numbers(),
                "report": dg.MetadataValue.path(str(report)),
                **{
                    name: dg.MetadataValue.md(text)
                    for name, text in pictures_as_markdown(comparison).items()
                },
            },
        )
        yield dg.AssetCheckResult(
            asset_key=spec.key,
            check_name="beats_baseline",
            passed=metric.sign * (best.value(metric.name) - baseline) > 0,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"baseline": baseline, "best": best.value(metric.name)},
        )

    return step


def champion(family: ModelFamily) -> dg.AssetsDefinition:
    """Give the asset of the version that serves."""
    spec = spec_of(
        family,
        key_of(family, "champion"),
        f"The version of {family.name} that serves. Only the gate lets a challenger replace it.",
        deps=[key_of(family, "challenger"), key_of(family, "model_card")],
        kinds={"mlflow"},
        code_version=hash_of(family, "primary_metric", "gate"),
    )
    says = "The challenger is better than who served before, beyond chance."

    @family_step(family, [spec], {spec.key: {"gate": (says, False)}})
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.training import let_gate_decide

        platform = platform_of(context)
        version = platform.registry.find(f"{family.name}@challenger")
        outcome = let_gate_decide(
            platform, family, version, actor=f"dagster run {context.run.run_id}"
        )
        decision = outcome.decision
        serving = outcome.champion
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                "champion": str(serving) if serving else "nobody: no version passed the gate yet",
                "decision": decision.summary,
                "judged_on_rows": decision.rows,
                **(serving.metrics if serving else {}),
            },
            data_version=dg.DataVersion(str(serving) if serving else "none"),
        )
        yield dg.AssetCheckResult(
            asset_key=spec.key,
            check_name="gate",
            passed=decision.promote,
            severity=dg.AssetCheckSeverity.WARN,
            description=decision.summary,
            metadata={
                "conditions": asset_metadata.records_table(
                    asdict(condition) for condition in decision.conditions
                )
            },
        )

    return step
