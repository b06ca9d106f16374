"""The declaration of a model family: what a user writes in YAML, validated.

Here is only what is declared and the rules a declaration must keep on its own. Whether a named
table, feature view or column exists is known only with a lake and a feature registry at hand, and
is checked where they are (`mlops_assets.training.training_set`).
"""

from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from mlops_assets.lake import TableName

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

ALGORITHMS = ("linear", "catboost")
"""Algorithms known by a short name. Another one is declared by its import path, `package:Class`."""

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


class _Declared(BaseModel):
    """A frozen piece of a declaration that names the nearest valid key when one is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    near = get_close_matches(str(key), cls.model_fields, n=1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    allowed = ", ".join(cls.model_fields)
                    raise ValueError(f"unknown key {key!r}{hint} Allowed: {allowed}")
        return data


def _table(value: str) -> str:
    return str(TableName.parse(value))


class SpineDeclaration(_Declared):
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

    table: str
    entity: tuple[Identifier, ...] = Field(min_length=1)
    prediction_time: Identifier = "prediction_time"
    keep: tuple[Identifier, ...] = ()
    filter: Sentence | None = None

    _table = field_validator("table")(_table)


class LabelDeclaration(_Declared):
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

    table: str
    column: Identifier
    available_at: Identifier
    keys: dict[Identifier, Identifier] = Field(default_factory=dict)
    filter: Sentence | None = None

    _table = field_validator("table")(_table)


class FeatureDeclaration(_Declared):
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


class SplitDeclaration(_Declared):
    """Time-ordered split. Each part begins where the one before it ends; ends are exclusive.

    Attributes
    ----------
    train_start
        First day of the training part; default: the first there is.
    train_end, validation_end, test_end
        First day that is no longer in the part.
    column
        Spine column whose calendar day decides (a DATE or TIMESTAMP; for local calendars).
        Default: the prediction time, in UTC.
    """

    train_start: date | None = None
    train_end: date
    validation_end: date
    test_end: date
    column: Identifier | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "SplitDeclaration":
        days = [
            (name, getattr(self, name))
            for name in ("train_start", "train_end", "validation_end", "test_end")
            if getattr(self, name) is not None
        ]
        for (earlier, first), (later, second) in pairwise(days):
            if first >= second:
                raise ValueError(
                    f"{later} {second} must be after {earlier} {first}, or a part is empty"
                )
        return self


class CandidateDeclaration(_Declared):
    """One model that competes.

    Attributes
    ----------
    algorithm
        `linear`, `catboost`, or the import path `package.module:Class` of an estimator.
    name
        Unique in the family. Default: the algorithm's name.
    parameters
        Handed to the algorithm as they are.
    """

    algorithm: str
    name: Identifier = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_algorithm(cls, data: Any) -> Any:
        if (
            isinstance(data, Mapping)
            and "name" not in data
            and isinstance(data.get("algorithm"), str)
        ):
            return {**data, "name": data["algorithm"].rpartition(":")[2].rpartition(".")[2]}
        return data

    @field_validator("algorithm")
    @classmethod
    def _known(cls, value: str) -> str:
        if value in ALGORITHMS:
            return value
        module, _, attribute = value.partition(":")
        if attribute.isidentifier() and all(part.isidentifier() for part in module.split(".")):
            return value
        near = get_close_matches(value, ALGORITHMS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{value!r} is not an algorithm{hint} Known: {', '.join(ALGORITHMS)}, "
            "or an import path 'package.module:Class'"
        )


class ThresholdDeclaration(_Declared):
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

    @model_validator(mode="after")
    def _value_only_when_fixed(self) -> "ThresholdDeclaration":
        if (self.rule == "fixed") != (self.value is not None):
            raise ValueError("rule 'fixed' needs a value, and only rule 'fixed' takes one")
        return self


class BaselineDeclaration(_Declared):
    """The trivial model that a first champion must beat: the label's rate in training.

    Attributes
    ----------
    by
        Categorical features; the rate is then each group's own. Default: one rate for all.
    smoothing
        Rows' worth of the overall rate mixed into each group's.
    """

    by: tuple[Identifier, ...] = ()
    smoothing: float = Field(default=50.0, ge=0)


class GateDeclaration(_Declared):
    """When a challenger becomes champion.

    Attributes
    ----------
    minimum_gain
        The whole interval of the gain in the primary metric must lie above this.
    confidence
        Level of every interval, such as 0.95.
    draws
        Bootstrap draws.
    max_calibration_error
        Highest expected calibration error that may serve; default: no limit.
    baseline
        What the first champion must beat.
    """

    minimum_gain: float = Field(default=0.0, ge=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    draws: int = Field(default=2000, ge=200, le=100_000)
    max_calibration_error: float | None = Field(default=None, gt=0, le=1)
    baseline: BaselineDeclaration = BaselineDeclaration()


class ModelFamily(_Declared):
    """A declared model family: everything needed to train, evaluate and gate its models.

    Attributes
    ----------
    name, description, owners, assumptions, limitations
        Identity and documentation; all required, they become the model card.
    task
        What kind of label it is. `binary` is what this version can train.
    spine, label, features, split
        Where the training set comes from.
    candidates
        The models that compete.
    primary_metric
        Chooses the challenger (on validation) and decides promotion (on test).
    slices
        Columns by which metrics are broken down; `month` and `hour` need no column.
    threshold, gate
        How to decide yes or no, and who may serve.
    seed
        Seed of training and bootstrap. Default: the deployment's.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
    description: Sentence
    owners: tuple[Sentence, ...] = Field(min_length=1)
    assumptions: tuple[Sentence, ...] = Field(min_length=1)
    limitations: tuple[Sentence, ...] = Field(min_length=1)
    task: Literal["binary", "multiclass", "regression"] = "binary"
    spine: SpineDeclaration
    label: LabelDeclaration
    features: tuple[FeatureDeclaration, ...] = Field(min_length=1)
    split: SplitDeclaration
    candidates: tuple[CandidateDeclaration, ...] = Field(min_length=1)
    primary_metric: str = "roc_auc"
    slices: tuple[Identifier, ...] = ("month",)
    threshold: ThresholdDeclaration = ThresholdDeclaration()
    gate: GateDeclaration = GateDeclaration()
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _consistent(self) -> "ModelFamily":
        from mlops_assets.training.tasks import task_named

        metrics = task_named(self.task).primary_metrics
        if self.primary_metric not in metrics:
            raise ValueError(
                f"primary_metric {self.primary_metric!r} does not fit task {self.task!r}; "
                f"allowed: {', '.join(metrics)}"
            )
        names = [candidate.name for candidate in self.candidates]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two candidates are named {name!r}; give each its own name")
        taken = set(self.spine.entity) | set(self.spine.keep)
        if reserved := taken & set(TRAINING_SET_COLUMNS):
            raise ValueError(
                f"spine columns {sorted(reserved)} have names the training set uses itself; "
                "rename them in the spine"
            )
        return self

    @property
    def training_set(self) -> TableName:
        """The lake table that holds this family's training set."""
        return TableName.parse(f"training/{self.name}")

    @property
    def label_keys(self) -> Mapping[str, str]:
        """Spine column to label column of the join that finds a row's label."""
        return self.label.keys or {column: column for column in self.spine.entity}

    @property
    def split_column(self) -> str:
        """Spine column whose calendar day decides the split."""
        return self.split.column or self.spine.prediction_time


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
    try:
        return ModelFamily.model_validate(declaration)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in problem['loc']) or 'family'}: "
            f"{problem['msg'].removeprefix('Value error, ')}{_shown(problem['input'])}"
            for problem in error.errors(include_url=False)
        ]
        raise FamilyError("\n".join([f"{source}: not a model family:", *lines])) from error


def _shown(value: object) -> str:
    """Give the wrong value, if it is short enough to help."""
    text = repr(value)
    return f" (got {text})" if len(text) <= 60 else ""
