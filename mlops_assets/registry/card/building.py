"""Making a model card of what a run recorded; nothing in it is typed by hand but the declaration.

A card is built once, when its version is registered. What happens to the version afterwards is
added by `judged`, which needs nothing but the card and the decision. The sections are made in
`origin`, `results` and `gating`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from mlops_assets.features import Selection
from mlops_assets.lake import TableName
from mlops_assets.registry.card import content as it
from mlops_assets.registry.card import gating, origin, results
from mlops_assets.registry.card.wording import facts
from mlops_assets.registry.gate import Decision
from mlops_assets.registry.ledger import LedgerEntry
from mlops_assets.registry.recipe import Recipe
from mlops_assets.registry.registry import ModelVersion, Registry
from mlops_assets.training.estimators import Estimator
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.explaining import ModelExplanation
from mlops_assets.training.training_set import TrainingSet
from mlops_assets.training.tuning import SearchResult


def build_card(
    registry: Registry,
    version: ModelVersion,
    *,
    estimator: Estimator,
    training_set: TrainingSet,
    selections: Sequence[Selection],
    validation: Evaluation | None,
    test: Evaluation | None,
    baseline: Evaluation | None,
    explanation: ModelExplanation | None,
    search: SearchResult | None = None,
    sources: Mapping[TableName, Sequence[str]] | None = None,
) -> it.ModelCard:
    """Make the card of a version that waits for the gate.

    Parameters
    ----------
    registry
        Holds the version's run, with its recipe, and the lake with its tables.
    version
        Which version.
    estimator
        The model, as `Registry.load` gives it.
    training_set
        What it learnt from.
    selections
        The feature views it takes, as `select_features` finds them.
    validation, test
        How it does.
    baseline
        How the trivial model does on test.
    explanation
        What moves it.
    search
        What the search of its parameters found; needed where its candidate declares one.
    sources
        For the lineage: input table to the raw tables it comes from.

    Raises
    ------
    CardIncompleteError
        Naming every section that would be empty, and what provides it.
    RegistryError
        When the run's recipe cannot be read.
    """
    recipe = Recipe.of_run(registry.client, version.run_id)
    _require_given(
        version,
        {
            "metrics, slices and calibration on validation": (validation, "evaluate on validation"),
            "metrics, slices and calibration on test": (test, "evaluate on test"),
            "explanations and fairness": (explanation, "explain_model on test"),
            "search": (
                search if recipe.candidate.search is not None else "none was declared",
                f"the search of {recipe.candidate.name}, which declares one",
            ),
        },
    )
    assert validation is not None  # noqa: S101 - _require_given has refused otherwise
    assert test is not None  # noqa: S101 - as above
    assert explanation is not None  # noqa: S101 - as above
    family, task = recipe.family, estimator.task
    metrics = results.metric_lines(family, task, validation, test, baseline)
    card = it.ModelCard(
        made_at=datetime.now(UTC),
        identity=it.Identity(
            family=family.name,
            version=version.version,
            candidate=version.candidate,
            algorithm=version.algorithm,
            task=task.name,
            description=family.description,
            owners=family.owners,
            registered_at=version.created_at,
            run_id=version.run_id,
            model_id=version.model_id,
        ),
        use=origin.use_of(family, task, registry.lake),
        assumptions=family.assumptions,
        limitations=family.limitations,
        schedule=origin.schedule_of(family),
        training=origin.training_of(recipe, version, estimator),
        search=None if search is None else origin.summarise_search(search),
        data=origin.data_of(registry.lake, task, training_set),
        features=origin.features_of(selections, estimator.schema),
        code=it.Code(
            git_commit=recipe.provenance.git_commit,
            lockfile_sha256=recipe.provenance.lockfile_sha256,
            dbt_manifest_sha256=recipe.provenance.dbt_manifest_sha256,
            environment=facts(recipe.environment.items()),
        ),
        intervals=results.intervals(test.resampling, test.days),
        metrics=metrics,
        slices=results.slices_of(family, task, test),
        fairness=results.fairness_of(explanation),
        calibration=results.calibration_of(task, metrics, test),
        threshold=results.threshold_of(family, task, validation, test),
        explanations=results.explanations_of(explanation),
        gate=it.Gate(rules=gating.gate_rules(family, task), decision=None, history=()),
        lineage=origin.lineage_of(family, version, sources or {}),
        operations=origin.operations_on(version),
    )
    require_complete(card)
    return card


def judged(
    card: it.ModelCard, decision: Decision, history: Iterable[LedgerEntry] = ()
) -> it.ModelCard:
    """Add what the gate decided, and what the ledger says of the version since.

    Parameters
    ----------
    card
        As it was.
    decision
        About this version.
    history
        The family's lines of the ledger; those about other versions are left out.

    Raises
    ------
    CardIncompleteError
        When the decision is about another version.
    """
    name = card.identity.name
    if decision.challenger != name:
        raise it.CardIncompleteError(
            f"{name}: gate: the decision given is about {decision.challenger}; judge {name}"
        )
    gate = card.gate.model_copy(
        update={
            "decision": gating.gate_decision(card, decision),
            "history": gating.history_of(card, history),
        }
    )
    return card.model_copy(update={"gate": gate, "made_at": datetime.now(UTC)})


def require_complete(card: it.ModelCard) -> None:
    """Refuse a card with a section that says nothing.

    Raises
    ------
    CardIncompleteError
        Naming every such section and what would fill it.
    """
    undescribed = [
        feature.name
        for view in card.features
        for feature in view.features
        if not feature.description.strip()
    ]
    undescribed += [view.name for view in card.features if not view.description.strip()]
    empty = {
        "identity": (not card.identity.description.strip(), "description in the declaration"),
        "owners": (not card.identity.owners, "owners in the declaration"),
        "assumptions": (not card.assumptions, "assumptions in the declaration"),
        "limitations": (not card.limitations, "limitations in the declaration"),
        "schedule": (not card.schedule, "retraining in the declaration"),
        "training": (not card.training.facts, "the run's recipe"),
        "data": (
            not card.data.parts or not card.data.inputs,
            "the training set's audit and its inputs, which build_training_set records",
        ),
        "features": (not card.features, "the selected feature views"),
        "features: descriptions": (
            bool(undescribed),
            f"a description in dbt of {', '.join(undescribed)}",
        ),
        "code": (not card.code.environment, "the environment in the run's recipe"),
        "metrics": (not card.metrics, "evaluate on validation and test"),
        "calibration": (not card.calibration.metrics, "a calibration metric of the task"),
        "explanations": (not card.explanations.importance, "explain_model on test"),
        "lineage": (not card.lineage, "the version's inputs"),
    }
    _refuse(card.identity.name, {k: why for k, (is_empty, why) in empty.items() if is_empty})


def _require_given(version: ModelVersion, wanted: Mapping[str, tuple[object | None, str]]) -> None:
    _refuse(str(version), {name: why for name, (given, why) in wanted.items() if given is None})


def _refuse(name: str, missing: Mapping[str, str]) -> None:
    if missing:
        lines = [f"  {section}: provided by {why}" for section, why in missing.items()]
        raise it.CardIncompleteError(
            "\n".join([f"the model card of {name} would be incomplete. Missing:", *lines])
        )
