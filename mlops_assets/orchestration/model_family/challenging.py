"""From the best candidate to a documented challenger: registration, explanation, model card."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_assets.features import FeatureRegistry
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.model_family.steps import (
    family_step,
    hash_of,
    hash_text,
    key_of,
    newest_training_set,
    platform_of,
    spec_of,
)
from mlops_assets.training.family import ModelFamily


def challenger(family: ModelFamily) -> dg.AssetsDefinition:
    """Give the asset of the version that waits for the gate."""
    spec = spec_of(
        family,
        key_of(family, "challenger"),
        f"The best candidate of {family.name} by {family.primary_metric} on validation, registered "
        "in MLflow with the versions of all its tables, waiting for the gate.",
        deps=[key_of(family, "evaluation")],
        kinds={"mlflow"},
        code_version=hash_of(family, "primary_metric"),
    )

    @family_step(family, [spec], {})
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.training import challenge

        platform = platform_of(context)
        chosen, version = challenge(platform, family, newest_training_set(platform, family))
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                "version": str(version),
                "candidate": chosen.name,
                "training_set": str(version.training_set),
                **chosen.metrics,
            },
            data_version=dg.DataVersion(str(version)),
        )

    return step


def documentation(family: ModelFamily, views: FeatureRegistry) -> dg.AssetsDefinition:
    """Give the assets that say what the challenger is: its explanation and its model card.

    They are one step, because a card shows the explanation it comes with.
    """
    explanation = spec_of(
        family,
        key_of(family, "explanation"),
        f"What moves the answers of {family.name}'s challenger, over all and row by row, and for "
        "whom it does how well; in the evaluation report and as tables in the lake.",
        deps=[key_of(family, "challenger")],
        kinds={"python", "delta"},
        code_version=hash_of(family, "slices", "features"),
    )
    card = spec_of(
        family,
        key_of(family, "model_card"),
        f"The model card of {family.name}'s challenger, generated from what its run recorded. "
        "Without a complete card there is no promotion.",
        deps=[key_of(family, "challenger"), explanation.key],
        kinds={"html", "mlflow"},
        code_version=hash_text(family.model_dump_json()),
    )
    additive = "Each row's contributions add up to the model's own raw answer."
    complete = "No section of the model card is empty."

    @family_step(
        family,
        [explanation, card],
        {
            explanation.key: {"additive": (additive, True)},
            card.key: {"complete": (complete, True)},
        },
    )
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.documenting import (
            add_to_report,
            describe,
            explain,
        )
        from mlops_assets.registry.card import CardIncompleteError
        from mlops_assets.training.explaining import AdditivityError
        from mlops_assets.training.explaining.pictures import pictures_of

        platform = platform_of(context)
        version = platform.registry.find(f"{family.name}@challenger")
        try:
            explained = explain(platform, family, views, version)
        except AdditivityError as error:
            yield dg.AssetCheckResult(
                asset_key=explanation.key,
                check_name="additive",
                passed=False,
                description=str(error),
            )
            raise dg.Failure(str(error), allow_retries=False) from error
        report = add_to_report(platform, family, version, explained)
        yield dg.MaterializeResult(
            asset_key=explanation.key,
            metadata={
                "model": str(version),
                "tables": asset_metadata.records_table(
                    {"table": str(written.table), "version": written.version}
                    for written in explained.tables
                ),
                **({"report": dg.MetadataValue.path(str(report))} if report else {}),
                **{
                    name: asset_metadata.picture(png, name.replace("_", " "))
                    for name, png in pictures_of(explained.explanation).items()
                },
            },
            data_version=dg.DataVersion(str(version)),
        )
        yield dg.AssetCheckResult(
            asset_key=explanation.key,
            check_name="additive",
            passed=True,
            metadata={"largest_gap": explained.additivity_error},
        )
        try:
            path = describe(platform, family, views, version, explained)
        except CardIncompleteError as error:
            yield dg.AssetCheckResult(
                asset_key=card.key, check_name="complete", passed=False, description=str(error)
            )
            raise dg.Failure(str(error), allow_retries=False) from error
        yield dg.MaterializeResult(
            asset_key=card.key,
            metadata={"model": str(version), "card": dg.MetadataValue.path(str(path))},
            data_version=dg.DataVersion(str(version)),
        )
        yield dg.AssetCheckResult(asset_key=card.key, check_name="complete", passed=True)

    return step
