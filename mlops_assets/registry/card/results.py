"""How a model does: metrics, slices, fairness, calibration, threshold, what moves its answers."""

from mlops_assets.registry.card import content as it
from mlops_assets.registry.card.drawing import calibration_pictures, drawn
from mlops_assets.registry.card.wording import facts
from mlops_assets.training.bootstrap import Estimate, Resampling
from mlops_assets.training.evaluation import SMALL_SLICE, Evaluation
from mlops_assets.training.explaining import CLEAR_DIRECTION, TABLES, ModelExplanation
from mlops_assets.training.explaining.plots import explanation_plots, fairness_plots
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.pictures import slice_plots
from mlops_assets.training.tasks import Binary, Multiclass, Task

SHOWN_FEATURES = 25
"""The largest features, which the card lists; all of them are in the lake."""


def intervals(resampling: Resampling, days: int) -> str:
    """Say how intervals were made."""
    return (
        f"Intervals hold {resampling.confidence:.0%} of {resampling.draws:,} bootstrap draws of "
        f"whole days ({days} in test), seed {resampling.seed}."
    )


def metric_lines(
    family: ModelFamily,
    task: Task,
    validation: Evaluation,
    test: Evaluation,
    baseline: Evaluation | None,
) -> tuple[it.MetricLine, ...]:
    """List every metric of the task on validation and test, and the baseline's on test."""
    return tuple(
        it.MetricLine(
            name=name,
            title=metric.title,
            primary=name == family.primary_metric,
            headline=name == family.primary_metric or name in task.headline,
            better=metric.better,
            validation=it.Measured.of(validation.metrics[name]),
            test=it.Measured.of(test.metrics[name]),
            baseline=None if baseline is None else it.Measured.of(baseline.metrics[name]),
        )
        for name, metric in task.metrics.items()
    )


def _is_calibration(name: str) -> bool:
    return name.startswith("calibration") or name in {"coverage", "interval_width"}


def _calibrated(task: Task) -> str:
    match task:
        case Binary():
            return "Calibrated means that of the rows given a probability, that share is yes."
        case Multiclass():
            return (
                "Calibrated means that of the rows whose class is predicted with a probability, "
                "that share is of the class."
            )
        case _:
            return (
                "Calibrated means that each quantile has its share of the truths below it, and the "
                "interval between the outer ones its share inside."
            )


def calibration_of(
    task: Task, metrics: tuple[it.MetricLine, ...], test: Evaluation
) -> it.Calibration:
    """Say whether the answers mean what they say."""
    return it.Calibration(
        meaning=_calibrated(task),
        metrics=tuple(line for line in metrics if _is_calibration(line.name)),
        pictures=calibration_pictures(test),
    )


def slices_of(family: ModelFamily, task: Task, test: Evaluation) -> it.Slices:
    """Say how the model does on each slice."""
    names = tuple(test.slices[0].metrics) if test.slices else ()
    primary = task.metric(family.primary_metric)
    return it.Slices(
        metrics=tuple(task.metrics[name].title for name in names),
        lines=tuple(
            it.SliceLine(
                column=found.column,
                value=found.value,
                rows=found.rows,
                small=found.small,
                metrics=tuple(it.Measured.of(found.metrics[name]) for name in names),
            )
            for found in test.slices
        ),
        pictures=drawn(
            slice_plots(test.slices, primary.name, test.metrics[primary.name], primary.title)
        ),
        small=SMALL_SLICE,
    )


def fairness_of(explanation: ModelExplanation) -> it.FairnessSection:
    """Say how each group is treated."""
    found = explanation.fairness
    titles = {figure.name: figure.title for figure in found.figures}
    sizes = {(one.column, one.value): one for one in explanation.slices}
    lines = []
    for column, group in dict.fromkeys((one.column, one.group) for one in found.groups):
        figures = {
            one.figure: one for one in found.groups if (one.column, one.group) == (column, group)
        }
        whole = sizes.get((column, group))
        rows = whole.rows if whole else max(one.rows for one in figures.values())
        lines.append(
            it.FairnessLine(
                column=column,
                group=group,
                rows=rows,
                small=rows < SMALL_SLICE,
                figures=tuple(it.Measured.of(figures[name].estimate) for name in titles),
            )
        )
    return it.FairnessSection(
        figures=facts((figure.title, figure.meaning) for figure in found.figures),
        lines=tuple(lines),
        gaps=tuple(
            it.GapLine(
                column=gap.column,
                figure=titles[gap.figure],
                highest=gap.highest,
                lowest=gap.lowest,
                gap=it.Measured.of(gap.gap),
            )
            for gap in found.gaps
        ),
        pictures=drawn(fairness_plots(found)),
    )


def threshold_of(
    family: ModelFamily, task: Task, validation: Evaluation, test: Evaluation
) -> it.Threshold:
    """Say from which probability on the answer is yes, and what follows."""
    if not isinstance(task, Binary):
        rule = "No threshold: the answer is used as it is."
        return it.Threshold(rule=rule, value=None, consequences=())
    rules = {
        "best_f1": "the one that maximises F1 on validation",
        "fixed": "fixed in the declaration",
    }
    consequences: list[tuple[str, str]] = []
    value = None
    for found in (validation, test):
        decision = found.decision
        if decision is None:
            raise it.CardIncompleteError(
                f"threshold: the evaluation on {found.part} has none; evaluate with a threshold"
            )
        value = decision.threshold
        quality = ", ".join(
            f"{name} {_or_none(number)}"
            for name, number in (
                ("precision", decision.precision),
                ("recall", decision.recall),
                ("F1", decision.f1),
            )
        )
        consequences.append(
            (f"On {found.part}", f"{quality}, {decision.flagged:.1%} of rows called yes")
        )
    return it.Threshold(
        rule=rules[family.threshold.rule], value=value, consequences=facts(consequences)
    )


def _or_none(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def explanations_of(found: ModelExplanation) -> it.Explanations:
    """Say what moves the answers."""
    attribution = found.attribution
    shuffled = {one.name: one.loss for one in found.permuted}
    listed = attribution.importance[:SHOWN_FEATURES]
    return it.Explanations(
        of=found.of,
        rows=attribution.explained,
        additivity_error=attribution.additivity_error,
        importance=tuple(
            it.ImportanceLine(
                feature=one.feature,
                size=it.Measured.of(one.size),
                share=one.share,
                direction=_direction(one.categorical, one.direction),
                shuffled=_maybe(shuffled.get(one.feature)),
            )
            for one in listed
        ),
        others=len(attribution.importance) - len(listed),
        views=tuple(
            it.ViewImportance(
                view=one.name, features=len(one.features), shuffled=it.Measured.of(one.loss)
            )
            for one in found.permuted_views
        ),
        pictures=drawn(explanation_plots(found)),
        tables=tuple(str(table.name) for table in TABLES),
    )


def _maybe(found: Estimate | None) -> it.Measured | None:
    return None if found is None else it.Measured.of(found)


def _direction(categorical: bool, direction: float | None) -> str:
    if categorical:
        return "category"
    if direction is None:
        return "none"
    if abs(direction) < CLEAR_DIRECTION:
        return f"mixed ({direction:+.2f})"
    return f"larger pushes {'up' if direction > 0 else 'down'} ({direction:+.2f})"
