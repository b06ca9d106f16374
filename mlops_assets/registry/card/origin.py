"""Where a model comes from: what it is for, how and from what it learnt, what to do with it."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from mlops_assets.features import Selection
from mlops_assets.lake import Lake, TableName, TableVersion
from mlops_assets.registry.card import content as it
from mlops_assets.registry.card.wording import duration, facts, meanings, value_text, words
from mlops_assets.registry.recipe import Recipe
from mlops_assets.registry.registry import ModelVersion
from mlops_assets.training.dataset import FeatureSchema
from mlops_assets.training.estimators import Estimator
from mlops_assets.training.family import CandidateDeclaration, ModelFamily
from mlops_assets.training.tasks import Binary, Multiclass, Regression, Task
from mlops_assets.training.training_set import TrainingSet
from mlops_assets.training.tuning import SearchResult

_METHODS = {
    "linear": (
        "Regularised linear model on standardised numbers and one column a category; missing "
        "numbers are a column of their own."
    ),
    "catboost": (
        "Gradient-boosted decision trees (CatBoost) with native categories and missing values."
    ),
    "net": (
        "Deep tabular net: an efficient ensemble of multilayer perceptrons (TabM) on embedded "
        "numbers and categories."
    ),
    "ensemble": "Weighted pool of the other candidates' answers; the weights come from validation.",
}


def use_of(family: ModelFamily, task: Task, lake: Lake) -> it.Use:
    """Say what is scored, what the answer is, and what the truth is."""
    spine, label = family.spine, family.label
    truths = {field.name: field for field in lake.schema(TableName.parse(label.table))}
    meaning = (truths[label.column].metadata or {}).get(b"comment", b"").decode().rstrip(".")
    conditions = [text for text in (spine.filter, label.filter) if text]
    return it.Use(
        scores=f"each {', '.join(spine.entity)} of {spine.table}, as of {spine.prediction_time}",
        answers=_answers(task),
        truth=f"{label.table}.{label.column}{': ' if meaning else ''}{meaning}; known at its "
        f"{label.available_at}",
        conditions=tuple(dict.fromkeys(conditions)),
    )


def _answers(task: Task) -> str:
    match task:
        case Binary():
            return "the probability of yes"
        case Multiclass():
            return f"the probability of each of the classes {', '.join(task.outputs)}"
        case _:
            return f"quantiles of the value: {', '.join(task.outputs)}"


def schedule_of(family: ModelFamily) -> tuple[it.Fact, ...]:
    """Say when the family is trained again, as its retraining policy has it."""
    declared = family.retraining
    meaning = meanings(type(declared))
    policy = [
        (words(name), f"{value_text(value)}. {meaning.get(name, '')}".strip())
        for name in type(declared).model_fields
        if (value := getattr(declared, name)) is not None
    ]
    return facts(
        [
            *policy,
            ("On demand", f"materialise the assets of group {family.name}"),
            ("Before it serves", "the gate must let it through"),
        ]
    )


def training_of(recipe: Recipe, version: ModelVersion, estimator: Estimator) -> it.Training:
    """Say how the model learnt."""
    candidate, family = recipe.candidate, recipe.family
    method = _METHODS.get(candidate.algorithm, f"The estimator {candidate.algorithm}.")
    curve = estimator.learning_curve
    iterations = (
        [("Iterations kept", f"{curve.best_iteration + 1} of {len(curve.train)}")]
        if curve.best_iteration is not None
        else []
    )
    return it.Training(
        method=f"{method} {_refitted(candidate)}",
        parameters=facts(estimator.parameters.items()),
        facts=facts(
            [
                ("Split", f"by calendar day of {family.split_column}"),
                ("Learnt from", f"{version.first_day} to {version.last_day}"),
                *iterations,
                ("Loss", estimator.task.metric(estimator.task.loss).title),
                *((f"Member {name}", f"run {run}") for name, run in recipe.members.items()),
                ("Seed", recipe.seed),
                ("Threads", recipe.threads),
                ("Seconds", f"{version.metrics['fit_seconds']:.1f}"),
            ]
        ),
    )


def _refitted(candidate: CandidateDeclaration) -> str:
    if not candidate.refit:
        return "Learnt from the training part; validation only decided when to stop."
    return (
        "Learnt from the training part with validation deciding when to stop, then once more from "
        "both together with what validation had decided."
    )


def summarise_search(found: SearchResult) -> it.SearchSummary:
    """Say what a search did, for the card."""
    states = [trial.state.value for trial in found.trials]
    best = found.best.value
    if best is None:
        raise it.CardIncompleteError(f"search {found.study}: its best trial has no value")
    return it.SearchSummary(
        metric=found.metric_title,
        space=facts((name, _range(values)) for name, values in found.space.items()),
        trials=len(found.trials),
        states=facts((state, states.count(state)) for state in dict.fromkeys(states)),
        best_value=best,
        best_parameters=facts(found.best_parameters.items()),
    )


def _range(values: BaseModel) -> str:
    declared = values.model_dump()
    if "choices" in declared:
        return "one of " + value_text(declared["choices"])
    logarithmic = ", by orders of magnitude" if declared["log"] else ""
    return f"{value_text(declared['low'])} to {value_text(declared['high'])}{logarithmic}"


def data_of(lake: Lake, task: Task, training_set: TrainingSet) -> it.Data:
    """Say from what it learnt: parts, what was left out, and every input table."""
    audit = training_set.audit
    digits = ".4g" if isinstance(task, Regression) else ".1%"
    return it.Data(
        training_set=str(training_set.version.table),
        version=training_set.version.version,
        rows=audit.rows,
        parts=tuple(
            it.DataPart(
                name=name,
                rows=part.rows,
                first_day=part.first_day,
                last_day=part.last_day,
                label=", ".join(f"{key} {value:{digits}}" for key, value in part.label.items()),
            )
            for name, part in audit.parts.items()
        ),
        purged=audit.purged,
        unlabelled=audit.unlabelled,
        outside=audit.outside,
        inputs=tuple(_input(lake, used) for used in training_set.inputs),
        findings=tuple(f"{one.feature}: {one.problem}" for one in audit.findings),
    )


def _input(lake: Lake, used: TableVersion) -> it.InputTable:
    written = {commit.version: commit.timestamp for commit in lake.history(used.table)}
    return it.InputTable(
        table=str(used.table),
        version=used.version,
        rows=lake.describe(used.table, used.version).rows,
        written_at=written.get(used.version),
    )


def features_of(selections: Sequence[Selection], schema: FeatureSchema) -> tuple[it.ViewLine, ...]:
    """List the features the model takes, view by view."""
    lines = []
    for selection in selections:
        taken = tuple(
            it.FeatureLine(
                name=selection.prefix + name,
                kind="category" if selection.prefix + name in schema.categorical else "number",
                description=selection.view.feature(name).description,
            )
            for name in selection.features
            if selection.prefix + name in schema.names
        )
        if taken:
            view = selection.view
            lines.append(
                it.ViewLine(
                    name=selection.label,
                    description=view.description,
                    owner=view.owner,
                    ttl="" if view.ttl is None else f"after {duration(view.ttl)}",
                    features=taken,
                )
            )
    return tuple(lines)


def lineage_of(
    family: ModelFamily, version: ModelVersion, sources: Mapping[TableName, Sequence[str]]
) -> tuple[it.Step, ...]:
    """List the stations from raw tables to a version that may serve."""
    raw = sorted({name for used in version.inputs for name in sources.get(used.table, ())})
    steps = [it.Step(title="Sources", items=tuple(raw))] if raw else []
    return (
        *steps,
        it.Step(title="Tables", items=tuple(str(used) for used in version.inputs)),
        it.Step(title="Training set", items=(str(version.training_set),)),
        it.Step(title="Run", items=(version.candidate, version.run_id)),
        it.Step(title="Version", items=(str(version), version.model_id)),
        it.Step(title="Serves as", items=(f"{family.name}@champion, once the gate lets it",)),
    )


def operations_on(version: ModelVersion) -> tuple[it.Command, ...]:
    """Give the commands for this version."""
    family = version.family
    load = (
        "from mlops_assets.registry import Registry\n"
        "from mlops_assets.settings import load_settings\n\n"
        f'model = Registry.from_settings(load_settings()).load("{version}")\n'
        "answers = model.predict(features)  # one column a feature, see Features"
    )
    return (
        it.Command(does="Look at it", command=f"mlops models show {version}"),
        it.Command(does="Load it in Python", command=load),
        it.Command(
            does="Train it again from its pinned tables and compare the two",
            command=f"mlops models reproduce {version}",
        ),
        it.Command(
            does="Let the version before the champion serve again",
            command=f"mlops models rollback {family}",
        ),
        it.Command(
            does="Let this version serve, on a person's word",
            command=f"mlops models promote {version}",
        ),
        it.Command(
            does="Read what it learnt from",
            command=f'mlops sql "select * from training.{family} limit 10"',
        ),
    )
