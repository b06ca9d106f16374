"""What a model card says, as values: frozen, complete, and kept as JSON beside the model.

Here is only the content. Where it comes from is `building`, in which order it is shown is `layout`,
and what it looks like is `html` and `markdown`. A card read back from its JSON renders to the same
pages, so a later event, such as the gate's decision, is added without computing anything again.
"""

from datetime import date, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from mlops_assets.registry.errors import RegistryError
from mlops_assets.training.bootstrap import Estimate


class CardIncompleteError(RegistryError):
    """A section of a model card has nothing to say; the message names it and what would fill it."""


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Content):
    """A number with its interval.

    Attributes
    ----------
    value, low, high
        None where they do not exist.
    reason
        Why they do not.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @classmethod
    def of(cls, found: Estimate) -> Self:
        """Take over an estimate."""
        return cls(value=found.value, low=found.low, high=found.high, reason=found.reason)


class Picture(_Content):
    """A drawing that takes its colours from the page.

    Attributes
    ----------
    title, caption
        What it is and how to read it.
    svg
        The drawing.
    wide
        Whether it needs the page's whole width.
    """

    title: str
    caption: str
    svg: str
    wide: bool = False


class Identity(_Content):
    """Which model this is.

    Attributes
    ----------
    family, version
        Its name is `family/version`.
    candidate, algorithm, task
        What kind of model.
    description, owners
        What it answers, and who answers for it.
    registered_at
        When it became a version, in UTC.
    run_id, model_id
        MLflow's names of it.
    """

    family: str
    version: int
    candidate: str
    algorithm: str
    task: str
    description: str
    owners: tuple[str, ...]
    registered_at: datetime
    run_id: str
    model_id: str

    @property
    def name(self) -> str:
        """`family/version`."""
        return f"{self.family}/{self.version}"


class Use(_Content):
    """What the model is for.

    Attributes
    ----------
    scores
        What is scored, and when.
    answers
        What an answer is.
    truth
        What it is an answer about, and when that is known.
    conditions
        Which rows it is for; empty when all.
    """

    scores: str
    answers: str
    truth: str
    conditions: tuple[str, ...]


class Fact(_Content):
    """A named value, as text."""

    name: str
    value: str


class Training(_Content):
    """How the model learnt.

    Attributes
    ----------
    method
        In a sentence or two.
    parameters
        Everything the algorithm was fitted with.
    facts
        Rows, days, seed, threads, iterations.
    """

    method: str
    parameters: tuple[Fact, ...]
    facts: tuple[Fact, ...]


class SearchSummary(_Content):
    """What a search of parameters did.

    Attributes
    ----------
    metric
        What was optimised on validation.
    space
        Parameter and the values it could take.
    trials
        How many were made.
    states
        How many of them ended how.
    best_value
        Of the metric.
    best_parameters
        What the search chose.
    """

    metric: str
    space: tuple[Fact, ...]
    trials: int
    states: tuple[Fact, ...]
    best_value: float
    best_parameters: tuple[Fact, ...]


class DataPart(_Content):
    """One part of the split.

    Attributes
    ----------
    name
        Of the part.
    rows
        How many.
    first_day, last_day
        Calendar days.
    label
        What its labels are like.
    """

    name: str
    rows: int
    first_day: date
    last_day: date
    label: str


class InputTable(_Content):
    """A table that the training set was made of.

    Attributes
    ----------
    table, version
        Which state of which.
    rows
        How many it has.
    written_at
        When that version was committed; None where its record has expired.
    """

    table: str
    version: int
    rows: int
    written_at: datetime | None


class Data(_Content):
    """From what the model learnt.

    Attributes
    ----------
    training_set, version, rows
        The table.
    parts
        Of the split, in time order.
    purged, unlabelled, outside
        Rows that were left out, by reason.
    inputs
        What it was made of.
    findings
        Features that were of no use as they are.
    """

    training_set: str
    version: int
    rows: int
    parts: tuple[DataPart, ...]
    purged: int
    unlabelled: int
    outside: int
    inputs: tuple[InputTable, ...]
    findings: tuple[str, ...]


class FeatureLine(_Content):
    """One feature."""

    name: str
    kind: str
    description: str


class ViewLine(_Content):
    """One feature view and what the model takes from it.

    Attributes
    ----------
    name, description, owner
        Of the view.
    ttl
        How old a value may be; empty when it does not expire.
    features
        Those the model takes.
    """

    name: str
    description: str
    owner: str
    ttl: str
    features: tuple[FeatureLine, ...]


class Code(_Content):
    """What code and environment made the model.

    Attributes
    ----------
    git_commit, lockfile_sha256, dbt_manifest_sha256
        As the run recorded them; `unknown` where there was none.
    environment
        Versions of what decides a fit.
    """

    git_commit: str
    lockfile_sha256: str
    dbt_manifest_sha256: str
    environment: tuple[Fact, ...]


class MetricLine(_Content):
    """A metric of the model.

    Attributes
    ----------
    name, title
        Of the metric.
    primary, headline
        Whether it decides, and whether it stands at the top of the card.
    better
        Which values are better, in words.
    validation, test, baseline
        On the two parts, and the trivial model's on test; None where there is none.
    """

    name: str
    title: str
    primary: bool
    headline: bool
    better: str
    validation: Measured
    test: Measured
    baseline: Measured | None


class SliceLine(_Content):
    """Metrics of one slice, in the order of `Slices.metrics`."""

    column: str
    value: str
    rows: int
    small: bool
    metrics: tuple[Measured, ...]


class Slices(_Content):
    """How the model does on parts of the test rows.

    Attributes
    ----------
    metrics
        Titles of what is measured.
    lines
        One a slice.
    pictures
        The primary metric by slice.
    small
        A slice with fewer rows is marked as small.
    """

    metrics: tuple[str, ...]
    lines: tuple[SliceLine, ...]
    pictures: tuple[Picture, ...]
    small: int


class FairnessLine(_Content):
    """Figures of one group, in the order of `Fairness.figures`."""

    column: str
    group: str
    rows: int
    small: bool
    figures: tuple[Measured, ...]


class GapLine(_Content):
    """The two groups furthest apart in a figure."""

    column: str
    figure: str
    highest: str
    lowest: str
    gap: Measured


class FairnessSection(_Content):
    """How groups are treated.

    Attributes
    ----------
    figures
        Title and meaning of what is compared.
    lines
        One a group.
    gaps
        The largest ones.
    pictures
        One a slice.
    """

    figures: tuple[Fact, ...]
    lines: tuple[FairnessLine, ...]
    gaps: tuple[GapLine, ...]
    pictures: tuple[Picture, ...]


class Calibration(_Content):
    """Whether the numbers mean what they say.

    Attributes
    ----------
    meaning
        What calibrated means for this task.
    metrics
        Those about calibration.
    pictures
        Predicted against observed.
    """

    meaning: str
    metrics: tuple[MetricLine, ...]
    pictures: tuple[Picture, ...]


class Threshold(_Content):
    """How an answer becomes a decision.

    Attributes
    ----------
    rule
        In words.
    value
        At and above which the answer is yes; None for a task without.
    consequences
        What follows on validation and test.
    """

    rule: str
    value: float | None
    consequences: tuple[Fact, ...]


class ImportanceLine(_Content):
    """A feature's weight.

    Attributes
    ----------
    feature
        Its name.
    size
        Mean absolute SHAP value.
    share
        Of the sum over all features.
    direction
        In words.
    shuffled
        What shuffling it costs in the primary metric; None where that was not tried.
    """

    feature: str
    size: Measured
    share: float
    direction: str
    shuffled: Measured | None


class ViewImportance(_Content):
    """What shuffling a whole feature view costs."""

    view: str
    features: int
    shuffled: Measured


class Explanations(_Content):
    """What moves the answer.

    Attributes
    ----------
    of
        What contributions add up to.
    rows
        Over how many rows.
    additivity_error
        Largest gap between a score and its contributions.
    importance
        The largest features.
    others
        How many more there are.
    views
        By feature view.
    pictures
        SHAP values, dependence, permutation.
    tables
        Where all of it is in the lake.
    """

    of: str
    rows: int
    additivity_error: float
    importance: tuple[ImportanceLine, ...]
    others: int
    views: tuple[ViewImportance, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[str, ...]


class GateCondition(_Content):
    """One thing the gate asked."""

    name: str
    met: bool
    reason: str


class GateDecision(_Content):
    """What the gate said.

    Attributes
    ----------
    promote, summary
        The decision, and in one line.
    opponent
        Against whom.
    metric, minimum_gain
        By what, and by how much it had to be better.
    gain
        Over the opponent; None when it could not be computed.
    conditions
        All of them.
    judged_on
        Rows and days.
    resampling
        How the interval was made.
    """

    promote: bool
    summary: str
    opponent: str
    metric: str
    minimum_gain: float
    gain: Measured | None
    conditions: tuple[GateCondition, ...]
    judged_on: str
    resampling: str


class HistoryLine(_Content):
    """One line of the ledger that concerns this version."""

    at: datetime
    event: str
    actor: str
    reason: str
    change: str


class Gate(_Content):
    """Whether the model may serve.

    Attributes
    ----------
    rules
        What the family asks of a challenger.
    decision
        None while the model waits for the gate.
    history
        Promotions, refusals and rollbacks of this version, oldest first.
    """

    rules: tuple[Fact, ...]
    decision: GateDecision | None
    history: tuple[HistoryLine, ...]


class Step(_Content):
    """A station between raw data and a prediction."""

    title: str
    items: tuple[str, ...]


class Command(_Content):
    """A command and what it does."""

    does: str
    command: str


class ModelCard(_Content):
    """Everything that must be known of a model version by whoever uses it or answers for it.

    Attributes
    ----------
    made_at
        When the card was made, in UTC.
    identity, use, assumptions, limitations
        What it is, what for, and what it takes for granted and does not cover.
    schedule
        When it is trained again.
    training, search
        How it learnt; `search` is None where none was declared.
    data, features, code
        From what.
    intervals
        How all intervals were made, in words.
    metrics, slices, fairness, calibration, threshold, explanations
        How it does, for whom, and why.
    gate
        Whether it may serve.
    lineage
        From raw tables to predictions.
    operations
        Commands: look at it, load it, reproduce it, roll it back.
    """

    made_at: datetime
    identity: Identity
    use: Use
    assumptions: tuple[str, ...]
    limitations: tuple[str, ...]
    schedule: tuple[Fact, ...]
    training: Training
    search: SearchSummary | None
    data: Data
    features: tuple[ViewLine, ...]
    code: Code
    intervals: str
    metrics: tuple[MetricLine, ...]
    slices: Slices
    fairness: FairnessSection
    calibration: Calibration
    threshold: Threshold
    explanations: Explanations
    gate: Gate
    lineage: tuple[Step, ...]
    operations: tuple[Command, ...]

    @property
    def primary(self) -> MetricLine:
        """The metric that decides."""
        return next(line for line in self.metrics if line.primary)

    @property
    def status(self) -> str:
        """Where the model stands with the gate, in a few words."""
        if self.gate.decision is None:
            return "waiting for the gate"
        return "passed the gate" if self.gate.decision.promote else "refused by the gate"

    def to_html(self) -> str:
        """Return the card as one HTML page that needs nothing else."""
        from mlops_assets.registry.card.html import render_html

        return render_html(self)

    def to_markdown(self) -> str:
        """Return the card as Markdown, without its pictures."""
        from mlops_assets.registry.card.markdown import render_markdown

        return render_markdown(self)
