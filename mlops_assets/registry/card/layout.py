"""The order of a model card: its content as sections of a few kinds of block.

Both renderings walk through these blocks, so a reader of the Markdown misses nothing but pictures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mlops_assets.registry.card.content import (
    Fact,
    FairnessSection,
    GateDecision,
    Measured,
    MetricLine,
    ModelCard,
    Picture,
    SearchSummary,
    Step,
)
from mlops_assets.training.number_text import interval_text, measured_text, number_text

NONE = "–"


@dataclass(frozen=True)
class Mono:
    """A cell or text that is code: a name, a version, a hash."""

    text: str


@dataclass(frozen=True)
class Tagged:
    """A cell with small marks beside it."""

    text: str
    tags: tuple[str, ...]


Cell = str | Mono | Tagged | Measured


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names with values."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Table:
    """Columns and rows; the columns named in `text` hold words, the others numbers.

    `folded` tables are long, and open on demand where the medium can do that.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text: frozenset[int] = frozenset({0})
    folded: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences under a heading of its own."""

    title: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    """Drawings, side by side where there is room."""

    items: tuple[Picture, ...]


@dataclass(frozen=True)
class Flow:
    """Stations one after another."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Commands:
    """Commands to copy, each with what it does."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Verdict:
    """A decision in one line; `good` is None while there is none."""

    good: bool | None
    text: str


Block = Paragraph | Facts | Table | Bullets | Pictures | Flow | Commands | Verdict


@dataclass(frozen=True)
class Section:
    """A titled part of the card; `key` is its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


def sections(card: ModelCard) -> tuple[Section, ...]:
    """Lay out a card."""
    return (
        Section("use", "Intended use", _use(card)),
        Section(
            "limits",
            "Assumptions and limitations",
            (
                Bullets("Assumes", card.assumptions),
                Bullets("Does not cover", card.limitations),
            ),
        ),
        Section("gate", "Gate", _gate(card)),
        Section("metrics", "Metrics", _metrics(card)),
        Section("slices", "Slices", _slices(card)),
        Section("fairness", "Fairness", _fairness(card.fairness)),
        Section(
            "calibration",
            "Calibration",
            (
                Paragraph(card.calibration.meaning),
                _metric_table(card.calibration.metrics),
                Pictures(card.calibration.pictures),
            ),
        ),
        Section("threshold", "Decision threshold", _threshold(card)),
        Section("explanations", "What moves the answer", _explanations(card)),
        Section("training", "Training", _training(card)),
        Section("search", "Search", _search(card.search)),
        Section("data", "Data", _data(card)),
        Section("features", "Features", _features(card)),
        Section("code", "Code and environment", _code(card)),
        Section("schedule", "Schedule and triggers", (_facts(card.schedule),)),
        Section("lineage", "Lineage", (Flow(card.lineage),)),
        Section(
            "operations",
            "Load, reproduce, roll back",
            (Commands(tuple((one.does, one.command) for one in card.operations)),),
        ),
    )


def interval(found: Measured) -> str:
    """Return the ends of an interval, with the digits of its value; empty where there is none."""
    if found.value is None or found.low is None or found.high is None:
        return ""
    return interval_text(found.low, found.high, found.value)


def number(found: Measured) -> str:
    """Return the value of a measured number; it must have one."""
    return NONE if found.value is None else measured_text(found.value, found.low, found.high)


def moment(at: datetime) -> str:
    """Return an instant for people, in UTC."""
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _facts(rows: Iterable[Fact]) -> Facts:
    return Facts(tuple((row.name, row.value) for row in rows))


def _use(card: ModelCard) -> tuple[Block, ...]:
    rows: list[tuple[str, Cell]] = [
        ("Question", card.identity.description),
        ("Task", card.identity.task),
        ("Scores", card.use.scores),
        ("Answers", card.use.answers),
        ("Truth", card.use.truth),
        *(("Only rows with", Mono(condition)) for condition in card.use.conditions),
        ("Owners", ", ".join(card.identity.owners)),
    ]
    return (Facts(tuple(rows)),)


def _gate(card: ModelCard) -> tuple[Block, ...]:
    decision = card.gate.decision
    blocks: list[Block] = []
    if decision is None:
        blocks.append(
            Verdict(None, "Waiting for the gate: no decision about this version has been made yet.")
        )
    else:
        blocks += _decision(decision)
    blocks += [Paragraph("What the family asks of a challenger:"), _facts(card.gate.rules)]
    if card.gate.history:
        blocks.append(
            Table(
                ("When", "event", "champion", "by", "reason"),
                tuple(
                    (moment(line.at), line.event, line.change, line.actor, line.reason)
                    for line in card.gate.history
                ),
                frozenset({0, 1, 2, 3, 4}),
            )
        )
    return tuple(blocks)


def _decision(decision: GateDecision) -> list[Block]:
    facts: list[tuple[str, Cell]] = [("Judged against", Mono(decision.opponent))]
    if decision.gain is not None:
        facts.append((f"Gain in {decision.metric}", decision.gain))
    facts += [
        ("Must lie above", f"{decision.minimum_gain:+.4f}, with its whole interval"),
        ("Judged on", decision.judged_on),
        ("Interval", decision.resampling),
    ]
    return [
        Verdict(decision.promote, decision.summary),
        Facts(tuple(facts)),
        Table(
            ("Condition", "met", "because"),
            tuple(
                (one.name, "yes" if one.met else "no", one.reason) for one in decision.conditions
            ),
            frozenset({0, 1, 2}),
        ),
    ]


def _metric_table(lines: Iterable[MetricLine]) -> Table:
    chosen = tuple(lines)
    with_baseline = any(line.baseline is not None for line in chosen)
    rows = tuple(
        (
            Tagged(line.title, ("decides",)) if line.primary else line.title,
            line.better,
            line.validation,
            line.test,
            *((line.baseline or NONE,) if with_baseline else ()),
        )
        for line in chosen
    )
    headers = ("Metric", "better", "validation", "test")
    return Table(
        (*headers, "baseline on test") if with_baseline else headers, rows, frozenset({0, 1})
    )


def _metrics(card: ModelCard) -> tuple[Block, ...]:
    return (
        Paragraph(
            "Validation decided when to stop, the threshold and which candidate was chosen; test "
            f"decided nothing but the gate. {card.intervals}"
        ),
        _metric_table(card.metrics),
    )


def _slices(card: ModelCard) -> tuple[Block, ...]:
    slices = card.slices
    if not slices.lines:
        return (Paragraph("The family declares no slices."),)
    return (
        Paragraph(
            f"On test. A slice with fewer than {slices.small} rows is marked as small: its "
            "interval is wide and its value says little."
        ),
        Pictures(slices.pictures),
        Table(
            ("Slice", "rows", *slices.metrics),
            tuple(
                (
                    Tagged(f"{line.column} = {line.value}", ("small",) if line.small else ()),
                    f"{line.rows:,}",
                    *line.metrics,
                )
                for line in slices.lines
            ),
            folded="All slices as a table",
        ),
    )


def _fairness(found: FairnessSection) -> tuple[Block, ...]:
    if not found.lines:
        return (Paragraph("The family declares no slices, so there are no groups to compare."),)
    gaps = Table(
        ("Slice", "figure", "highest", "lowest", "largest gap"),
        tuple((gap.column, gap.figure, gap.highest, gap.lowest, gap.gap) for gap in found.gaps),
        frozenset({0, 1, 2, 3}),
    )
    none = Paragraph("No slice has two groups that are large enough to compare.")
    return (
        Paragraph(
            "Groups of the declared slices on test. Where groups differ in what is true of them, "
            "these figures cannot all be equal; they are facts, not a verdict. Small groups are "
            "marked and left out of the gaps. A gap's two groups were picked for being furthest "
            "apart, so it errs on the large side."
        ),
        _facts(found.figures),
        gaps if found.gaps else none,
        Pictures(found.pictures),
        Table(
            ("Group", "rows", *(figure.name for figure in found.figures)),
            tuple(
                (
                    Tagged(f"{line.column} = {line.group}", ("small",) if line.small else ()),
                    f"{line.rows:,}",
                    *line.figures,
                )
                for line in found.lines
            ),
            folded="All groups as a table",
        ),
    )


def _threshold(card: ModelCard) -> tuple[Block, ...]:
    threshold = card.threshold
    rows: list[tuple[str, Cell]] = [("Rule", threshold.rule)]
    if threshold.value is not None:
        rows.append(("Answer is yes at and above", f"{threshold.value:.4f}"))
    rows += [(fact.name, fact.value) for fact in threshold.consequences]
    return (Facts(tuple(rows)),)


def _explanations(card: ModelCard) -> tuple[Block, ...]:
    it = card.explanations
    more = f" {it.others} more features weigh less." if it.others else ""
    shuffled = any(line.shuffled is not None for line in it.importance)
    metric = card.primary.title
    blocks: list[Block] = [
        Paragraph(
            f"SHAP values of {it.rows:,} test rows: what each feature adds to the model's raw "
            f"output, {it.of}. They were checked row by row to add up to it; the largest gap was "
            f"{it.additivity_error:.1e}.{more} They say what the model uses, not what causes what."
        ),
        Pictures(it.pictures),
        Table(
            (
                "Feature",
                "mean |SHAP|",
                "share",
                "direction",
                *((f"loss of {metric} when shuffled",) if shuffled else ()),
            ),
            tuple(
                (
                    Mono(line.feature),
                    line.size,
                    f"{line.share:.1%}",
                    line.direction,
                    *((line.shuffled or NONE,) if shuffled else ()),
                )
                for line in it.importance
            ),
            frozenset({0, 3}),
            folded=f"The {len(it.importance)} largest features as a table",
        ),
    ]
    if it.views:
        blocks.append(
            Table(
                ("Feature view", "features", f"loss of {metric} when shuffled together"),
                tuple((Mono(one.view), f"{one.features}", one.shuffled) for one in it.views),
                folded="All feature views as a table",
            )
        )
    blocks.append(Paragraph(f"In the lake: {', '.join(it.tables)}, by run."))
    return tuple(blocks)


def _training(card: ModelCard) -> tuple[Block, ...]:
    return (
        Paragraph(card.training.method),
        _facts(card.training.facts),
        Table(
            ("Parameter", "value"),
            tuple((Mono(fact.name), Mono(fact.value)) for fact in card.training.parameters),
            frozenset({0, 1}),
        ),
    )


def _search(search: SearchSummary | None) -> tuple[Block, ...]:
    if search is None:
        return (
            Paragraph(
                "No search was declared: the parameters are the declared ones, and the "
                "algorithm's defaults where none is declared."
            ),
        )
    chosen = {fact.name: fact.value for fact in search.best_parameters}
    ended = ", ".join(f"{state.value} {state.name}" for state in search.states)
    return (
        Facts(
            (
                ("Optimised on validation", search.metric),
                ("Best value", number_text(search.best_value)),
                ("Trials", f"{search.trials} ({ended})"),
            )
        ),
        Table(
            ("Parameter", "searched", "chosen"),
            tuple(
                (Mono(fact.name), fact.value, Mono(chosen.get(fact.name, NONE)))
                for fact in search.space
            ),
            frozenset({0, 1, 2}),
        ),
    )


def _data(card: ModelCard) -> tuple[Block, ...]:
    data = card.data
    parts = tuple(
        (part.name, f"{part.rows:,}", part.label, str(part.first_day), str(part.last_day))
        for part in data.parts
    )
    left_out = tuple(
        (Tagged(name, (why,)), f"{rows:,}", "", "", "")
        for name, why, rows in (
            ("purged", "label known too late for its part", data.purged),
            ("not used", "no known label", data.unlabelled),
            ("not used", "outside the split's days", data.outside),
        )
    )
    blocks: list[Block] = [
        Table(
            ("Part", "rows", "label", "first day", "last day"),
            (*parts, *left_out),
            frozenset({0, 2}),
        ),
        Table(
            ("Table", "version", "rows", "written", "as"),
            (
                (Mono(data.training_set), f"{data.version}", f"{data.rows:,}", "", "training set"),
                *(
                    (
                        Mono(one.table),
                        f"{one.version}",
                        f"{one.rows:,}",
                        moment(one.written_at) if one.written_at else NONE,
                        "input",
                    )
                    for one in data.inputs
                ),
            ),
            frozenset({0, 3, 4}),
        ),
    ]
    if data.findings:
        blocks.append(Bullets("Features of no use as they are", data.findings))
    return tuple(blocks)


def _features(card: ModelCard) -> tuple[Block, ...]:
    count = sum(len(view.features) for view in card.features)
    blocks: list[Block] = [
        Paragraph(
            f"{count} features of {len(card.features)} feature views, each as it was known when "
            "the prediction was made."
        ),
        Table(
            ("Feature view", "features", "holds", "owner", "expires"),
            tuple(
                (
                    Mono(view.name),
                    f"{len(view.features)}",
                    view.description,
                    view.owner,
                    view.ttl or "never",
                )
                for view in card.features
            ),
            frozenset({0, 2, 3, 4}),
        ),
        Table(
            ("Feature", "kind", "view", "what it is"),
            tuple(
                (Mono(feature.name), feature.kind, Mono(view.name), feature.description)
                for view in card.features
                for feature in view.features
            ),
            frozenset({0, 1, 2, 3}),
            folded=f"All {count} features",
        ),
    ]
    return tuple(blocks)


def _code(card: ModelCard) -> tuple[Block, ...]:
    code = card.code
    rows: list[tuple[str, Cell]] = [
        ("Git commit", Mono(code.git_commit)),
        ("Lockfile (SHA-256)", Mono(code.lockfile_sha256)),
        ("dbt manifest (SHA-256)", Mono(code.dbt_manifest_sha256)),
        ("Environment", ", ".join(f"{fact.name} {fact.value}" for fact in code.environment)),
    ]
    return (Facts(tuple(rows)),)
