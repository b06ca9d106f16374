"""The declaration of a model family: what a user writes in YAML, validated.

Here is only what is declared and the rules a declaration must keep on its own. Whether an algorithm
and its parameters exist is known with the installed packages at hand
(`mlops_assets.training.family_candidates`); whether a table, feature view or column does, with a
lake and a feature registry (`mlops_assets.orchestration.model_family.checking`).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, field_validator

from mlops_assets.declaration import (
    Declared,
    Problem,
    constraint,
    did_you_mean,
    find_problems,
    unknown_name,
)
from mlops_assets.lake import TableName
from mlops_assets.training.family_fields import Identifier, LakeTable, Sentence
from mlops_assets.training.family_gate import GateDeclaration
from mlops_assets.training.family_monitoring import (
    MonitoringPolicy,
    RetrainingPolicy,
    RollbackPolicy,
)
from mlops_assets.training.family_search import SearchDeclaration
from mlops_assets.training.family_serving import ServingDeclaration
from mlops_assets.training.family_split import SplitDeclaration

ALGORITHMS = ("linear", "catboost", "net", "ensemble")
"""Algorithms known by a short name. Another one is declared by its import path, `package:Class`."""

TASKS = ("binary", "multiclass", "regression")
"""Kinds of label there are."""

DEFAULT_QUANTILES = (0.1, 0.5, 0.9)
"""What a regression answers when the declaration says nothing."""

DERIVED_SLICES = ("month", "hour")
"""Slices every family has: they come from the split column's calendar."""

TRAINING_SET_COLUMNS = (
    "prediction_time",
    "label",
    "label_available_at",
    "split",
    "split_day",
    "split_hour",
)
"""Columns of every training set beside entity keys, kept columns and features."""


class FamilyError(ValueError):
    """A family is declared wrongly. The message names the source, each key, value and rule."""


class SpineDeclaration(Declared):
    """One row per entity and prediction time: what the model is to score.

    Attributes
    ----------
    table
        Lake table, `schema/name`.
    entity
        Key columns of the entity; unique in the table.
    prediction_time
        Column with the instant at which the prediction is made.
    keep
        Further columns that travel into the training set without being features, for slices.
    filter
        SQL condition over the spine's columns; rows that fail it are not scored.
    """

    table: LakeTable
    entity: tuple[Identifier, ...] = Field(min_length=1)
    prediction_time: Identifier = "prediction_time"
    keep: tuple[Identifier, ...] = ()
    filter: Sentence | None = None


class LabelDeclaration(Declared):
    """Where the truth is, and when it can be known.

    Attributes
    ----------
    table
        Lake table, `schema/name`; it may be the spine's own.
    column
        Column with the label. Rows in which it is null have no known label.
    available_at
        Column with the instant at which the label could first be known.
    keys
        Spine column to label column. Default: the entity's columns under the same names.
    filter
        SQL condition over the label table's columns, such as `not cancelled`.
    """

    table: LakeTable
    column: Identifier
    available_at: Identifier
    keys: dict[Identifier, Identifier] = Field(default_factory=dict)
    filter: Sentence | None = None


class FeatureDeclaration(Declared):
    """Features of one view.

    Attributes
    ----------
    view
        Name of the feature view.
    columns
        Its features, or `all`.
    entity
        Spine column to the view's entity column, where the names differ.
    prefix
        Put before each feature's name, to use one view twice (`origin_`, `destination_`).
    """

    view: Identifier
    columns: tuple[Identifier, ...] | Literal["all"] = "all"
    entity: dict[Identifier, Identifier] = Field(default_factory=dict)
    prefix: Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""

    @field_validator("columns")
    @classmethod
    def _some_columns(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not value:
            raise ValueError("names no column; give some, or 'all'")
        return value


def _algorithm(value: str) -> str:
    if value in ALGORITHMS:
        return value
    module, _, attribute = value.partition(":")
    if attribute.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return value
    hint = did_you_mean(value, ALGORITHMS) or "."
    raise ValueError(
        f"{value!r} is not an algorithm{hint} Known: {', '.join(ALGORITHMS)}, "
        "or an import path 'package.module:Class'"
    )


class CandidateDeclaration(Declared):
    """One model that competes.

    Attributes
    ----------
    algorithm
        `linear`, `catboost`, `net`, `ensemble` of the others, or the import path
        `package.module:Class` of a scikit-learn compatible class or an estimator.
    name
        Unique in the family. Default: the algorithm's name.
    parameters
        Handed to the algorithm as they are.
    search
        How further parameters are searched. Default: they are not.
    refit
        Whether the model learns again from train and validation together, with what validation
        decided (iterations, parameters), before it answers the test part.
    """

    algorithm: Annotated[str, AfterValidator(_algorithm)]
    name: Identifier = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    search: SearchDeclaration | None = None
    refit: bool = True

    @classmethod
    def completed(cls, document: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Name a candidate after its algorithm."""
        algorithm = document.get("algorithm")
        if "name" in document or not isinstance(algorithm, str):
            return document
        return {**document, "name": algorithm.rpartition(":")[2].rpartition(".")[2]}

    @constraint
    def _searched_once(self) -> Iterator[Problem]:
        if self.algorithm == "ensemble" and self.search is not None:
            yield Problem(
                ("search",), "is not for an ensemble, which finds its weights by itself. Remove it."
            )


class ThresholdDeclaration(Declared):
    """How the yes-or-no threshold on the probability is chosen, on the validation part.

    Attributes
    ----------
    rule
        `best_f1` maximises F1; `fixed` takes `value`.
    value
        The probability at and above which the answer is yes; only with `fixed`.
    """

    rule: Literal["best_f1", "fixed"] = "best_f1"
    value: float | None = Field(default=None, gt=0, lt=1)

    @constraint
    def _value_only_when_fixed(self) -> Iterator[Problem]:
        if (self.rule == "fixed") != (self.value is not None):
            yield Problem(
                ("rule",),
                f"{self.rule!r} does not fit: rule 'fixed' needs a value, and only it takes one.",
            )


class ModelFamily(Declared):
    """A declared model family: everything needed to train, evaluate and gate its models.

    Attributes
    ----------
    name
        Identifies the family; its versions are `name/1`, `name/2`.
    description
        The question it answers, in a sentence.
    owners
        Who answers for it: `team:name` or an email address.
    assumptions
        What must be true for its answers to mean what they say.
    limitations
        Where it must not be relied on.
    task
        What kind of label it is: yes or no, one of several classes, or a number.
    quantiles
        Quantiles a regression answers, rising, the middle one being the point; only with
        `task: regression`. The outer two are the interval.
    spine
        What is scored, and when.
    label
        What was true, and since when that is known.
    features
        What is known at prediction time.
    split
        Which days are learnt from and which are judged on.
    candidates
        The models that compete.
    primary_metric
        Chooses the challenger (on validation) and decides promotion (on test). Default: the first
        of the task's: `roc_auc`, `log_loss`, `pinball_loss`.
    slices
        Columns by which metrics are broken down; `month` and `hour` need no column.
    threshold
        From which probability on the answer is yes; only for a binary task.
    gate
        Who may serve.
    retraining
        When to train again.
    rollback
        When the version that serves gives way to the one before.
    monitoring
        How its predictions, features and performance are watched.
    serving
        How its models are served.
    seed
        Seed of training and bootstrap. Default: the deployment's.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
    description: Sentence
    owners: tuple[Sentence, ...] = Field(min_length=1)
    assumptions: tuple[Sentence, ...] = Field(min_length=1)
    limitations: tuple[Sentence, ...] = Field(min_length=1)
    task: Literal["binary", "multiclass", "regression"] = "binary"
    quantiles: tuple[float, ...] = ()
    spine: SpineDeclaration
    label: LabelDeclaration
    features: tuple[FeatureDeclaration, ...] = Field(min_length=1)
    split: SplitDeclaration
    candidates: tuple[CandidateDeclaration, ...] = Field(min_length=1)
    primary_metric: str = ""
    slices: tuple[Identifier, ...] = ("month",)
    threshold: ThresholdDeclaration = ThresholdDeclaration()
    gate: GateDeclaration = GateDeclaration()
    retraining: RetrainingPolicy = RetrainingPolicy()
    rollback: RollbackPolicy = RollbackPolicy()
    monitoring: MonitoringPolicy = MonitoringPolicy()
    serving: ServingDeclaration = ServingDeclaration()
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)

    @classmethod
    def completed(cls, document: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Fill in the defaults of the task."""
        from mlops_assets.training.tasks import task_named

        task = document.get("task", "binary")
        filled = dict(document)
        if task in TASKS and not document.get("primary_metric"):
            filled["primary_metric"] = task_named(task).primary_metrics[0]
        if task == "regression" and not document.get("quantiles"):
            filled["quantiles"] = DEFAULT_QUANTILES
        return filled

    @constraint
    def _quantiles_fit(self) -> Iterator[Problem]:
        if not self.quantiles:
            return
        if self.task != "regression":
            yield Problem(("quantiles",), f"belong to task 'regression', not to {self.task!r}.")
        if (
            len(self.quantiles) % 2 == 0
            or any(not 0 < q < 1 for q in self.quantiles)
            or any(low >= high for low, high in pairwise(self.quantiles))
        ):
            yield Problem(
                ("quantiles",),
                f"{list(self.quantiles)} must be an odd number of rising values between 0 and 1, "
                "so that one stands in the middle.",
            )

    @constraint
    def _metric_fits_task(self) -> Iterator[Problem]:
        from mlops_assets.training.tasks import task_named

        metrics = task_named(self.task).primary_metrics
        if self.primary_metric not in metrics:
            yield Problem(
                ("primary_metric",),
                f"{self.primary_metric!r} does not fit task {self.task!r}"
                f"{did_you_mean(self.primary_metric, metrics) or '.'} "
                f"Allowed: {', '.join(metrics)}.",
            )

    @constraint
    def _gate_looks_at_slices_there_are(self) -> Iterator[Problem]:
        for place, name in enumerate(self.gate.slices.columns if self.gate.slices else ()):
            if name not in self.slices:
                yield Problem(
                    ("gate", "slices", "columns", place),
                    unknown_name(name, "slice of the family", self.slices),
                )

    @constraint
    def _each_candidate_has_its_own_name(self) -> Iterator[Problem]:
        names: list[str] = []
        for place, name in enumerate(_readable(self.candidates, "name")):
            if name in names:
                yield Problem(
                    ("candidates", place),
                    f"two candidates are named {name!r}; give each its own name.",
                )
            names.append(name)

    @constraint
    def _ensembles_have_members(self) -> Iterator[Problem]:
        singles = [c.name for c in self.candidates if c.algorithm != "ensemble"]
        for place, candidate in enumerate(self.candidates):
            if candidate.algorithm != "ensemble":
                continue
            members = self.members(candidate)
            key = ("candidates", place, "parameters", "members")
            for at, name in enumerate(members):
                if name not in singles:
                    said = unknown_name(name, "other candidate", singles)
                    yield Problem((*key, at), f"ensemble {candidate.name!r}: member {said}")
            if len(set(members)) < 2:
                yield Problem(
                    key, f"ensemble {candidate.name!r} needs at least two members to combine."
                )

    @constraint
    def _no_spine_column_has_a_name_of_the_training_set(self) -> Iterator[Problem]:
        for key in ("entity", "keep"):
            for place, name in enumerate(getattr(self.spine, key)):
                if name in TRAINING_SET_COLUMNS:
                    yield Problem(
                        ("spine", key, place),
                        f"{name!r} is a name that the training set uses itself; rename it in the "
                        "spine.",
                    )

    @property
    def training_set(self) -> TableName:
        """The lake table that holds this family's training set."""
        return TableName.parse(f"training/{self.name}")

    def members(self, ensemble: CandidateDeclaration) -> tuple[str, ...]:
        """Return the candidates an ensemble combines: those it names, or all single models."""
        singles = tuple(c.name for c in self.candidates if c.algorithm != ensemble.algorithm)
        named = ensemble.parameters.get("members")
        return tuple(str(name) for name in named) if isinstance(named, list) else singles

    @property
    def label_keys(self) -> Mapping[str, str]:
        """Spine column to label column of the join that finds a row's label."""
        return self.label.keys or {column: column for column in self.spine.entity}

    @property
    def split_column(self) -> str:
        """Spine column whose calendar day decides the split."""
        return self.split.column or self.spine.prediction_time


def _readable(items: Sequence[Declared], key: str) -> Iterator[Any]:
    """Yield a key of each item; a number of its own for one in which it is not valid."""
    for place, item in enumerate(items):
        yield getattr(item, key) if key in item.__dict__ else place


def declare_family(declaration: Mapping[str, Any], source: str = "family") -> ModelFamily:
    """Validate one family's declaration.

    Parameters
    ----------
    declaration
        The mapping a YAML file holds.
    source
        Where it came from, for the error: a file, with a line where one is known.

    Raises
    ------
    FamilyError
        Naming the source and, for each problem, the key, the value and what is allowed.
    """
    if problems := find_problems(ModelFamily, declaration):
        lines = [f"{source}: not a model family:", *(f"  {problem}" for problem in problems)]
        raise FamilyError("\n".join(lines))
    return ModelFamily.model_validate(declaration)
