"""The evaluation report: one HTML file that needs nothing else, with everything about a comparison.

Here the numbers of an evaluation are put in order for the page; the page itself is
`templates/report.html.j2`, the drawing is in `mlops_assets.training.pictures`.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.lake import TableVersion
from mlops_assets.training import pictures
from mlops_assets.training.curves import MulticlassCurves
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator, Explanation, LearningCurve
from mlops_assets.training.evaluation import Evaluation, SliceResult
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.metrics import Metric
from mlops_assets.training.pictures import Plot
from mlops_assets.training.training_set import TrainingSet
from mlops_assets.training.tuning import SearchResult

if TYPE_CHECKING:
    from markupsafe import Markup

EXPLAINED_ROWS = 500
"""Test rows, drawn at random by the seed, over which SHAP values are averaged."""


_MOST_IMPORTANT = 20  # features shown of an explanation

_DIGITS = ((1000, 0), (100, 1), (10, 2))
"""From which size on a number is shown with how many decimal places; below, with three."""


@dataclass(frozen=True)
class Entrant:
    """One candidate as the report shows it.

    Attributes
    ----------
    name, algorithm, parameters
        What it is.
    validation, test
        How it does.
    learning_curve
        How it learnt.
    explanation
        What moves it; only of the entrant that was chosen.
    """

    name: str
    algorithm: str
    parameters: Mapping[str, Any]
    validation: Evaluation
    test: Evaluation
    learning_curve: LearningCurve
    explanation: Explanation | None


@dataclass(frozen=True)
class Comparison:
    """Everything the report shows.

    Attributes
    ----------
    family
        The declaration.
    training_set
        What all entrants learnt from.
    entrants
        The candidates, in declared order.
    chosen
        Name of the one that becomes challenger.
    baseline
        The trivial model on test.
    facts
        Further lines for "how it was made": git commit, lockfile, and the like.
    searches
        What the searches found that gave entrants their parameters, by entrant.
    """

    family: ModelFamily
    training_set: TrainingSet
    entrants: tuple[Entrant, ...]
    chosen: str
    baseline: Evaluation
    facts: Mapping[str, str]
    searches: Mapping[str, SearchResult] = field(default_factory=dict)

    @property
    def best(self) -> Entrant:
        """The entrant that was chosen."""
        return next(entrant for entrant in self.entrants if entrant.name == self.chosen)

    @property
    def explanation(self) -> Explanation:
        """What moves the entrant that was chosen."""
        if self.best.explanation is None:
            raise ValueError(f"{self.chosen} was chosen, but it was not explained when it entered")
        return self.best.explanation

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return self.best.test.task.metric(self.family.primary_metric)

    @property
    def on_test(self) -> dict[str, Evaluation]:
        """How each entrant does on test, by name."""
        return {entrant.name: entrant.test for entrant in self.entrants}


def enter(
    name: str,
    algorithm: str,
    estimator: Estimator,
    evaluations: Mapping[str, Evaluation],
    test: Part | None = None,
    *,
    seed: int,
) -> Entrant:
    """Bring a trained model into the report, explained if rows to explain are given.

    Parameters
    ----------
    name, algorithm
        What it is.
    estimator
        The model, freshly trained or loaded from the registry.
    evaluations
        How it does on `validation` and on `test`.
    test
        The test part, of which a sample is explained. Default: the model is not explained.
    seed
        Draws the sample.
    """
    explanation = None
    if test is not None:
        generator = np.random.default_rng(seed)
        rows = np.sort(generator.permutation(len(test))[:EXPLAINED_ROWS])
        explanation = estimator.explain(test.features.iloc[rows])
    return Entrant(
        name=name,
        algorithm=algorithm,
        parameters=dict(estimator.parameters),
        validation=evaluations["validation"],
        test=evaluations["test"],
        learning_curve=estimator.learning_curve,
        explanation=explanation,
    )


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write the report as one HTML file, complete or not at all.

    Parameters
    ----------
    comparison
        What to show.
    path
        The file to write; its folder is made if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(render_report(comparison), encoding="utf-8")
    return draft.replace(path)


def render_report(comparison: Comparison) -> str:
    """Return the report's HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mlops_assets.training"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["share"] = lambda value: f"{value:.1%}"
    environment.filters["count"] = lambda value: f"{value:,}"
    best = comparison.best
    task = best.test.task
    return environment.get_template("report.html.j2").render(
        it=comparison,
        family=comparison.family,
        best=best,
        task=task,
        audit=comparison.training_set.audit,
        metrics=task.metrics,
        headline=[name for name in task.headline if name in task.metrics],
        primary=comparison.primary,
        figures=[_Figure.of(plot) for plot in _plots(comparison)],
        explanation=comparison.explanation,
        importance=_Figure.of(_importance_plot(comparison.explanation)),
        slices=[_Figure.of(plot) for plot in _slice_plots(best.test.slices, comparison)],
        slice_metrics=tuple(best.test.slices[0].metrics) if best.test.slices else (),
        classes=_classes(best.test),
        searches=_searches(comparison),
        versions=_versions(comparison.training_set.version, comparison.training_set.inputs),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def pictures_as_markdown(comparison: Comparison) -> dict[str, str]:
    """Return small pictures as Markdown images with the data inside, for metadata in a UI."""
    drawings = {
        plot.name: plot.draw
        for plot in pictures.plots(comparison.on_test, comparison.chosen)
        if plot.small
    }
    drawings["importance"] = _importance(comparison.explanation, top=12)
    return {name: markdown_image(name, pictures.png(draw)) for name, draw in drawings.items()}


def markdown_image(title: str, image: bytes) -> str:
    """Embed a PNG in Markdown as a data URI."""
    return f"![{title}](data:image/png;base64,{b64encode(image).decode('ascii')})"


@dataclass(frozen=True)
class _Figure:
    """A picture in the page."""

    title: str
    caption: str
    svg: "Markup"

    @classmethod
    def of(cls, plot: Plot) -> "_Figure":
        from markupsafe import Markup

        drawn = pictures.svg(plot.draw, height=plot.height)
        return cls(plot.title, plot.caption, Markup(drawn))  # noqa: S704  # our own SVG; names in it are escaped by matplotlib


@dataclass(frozen=True)
class _Class:
    """A class of a multiclass task as the page shows it; None where there is no such number."""

    name: str
    rows: int
    precision: float | None
    recall: float | None


def _plots(comparison: Comparison) -> list[Plot]:
    shown = list(pictures.plots(comparison.on_test, comparison.chosen))
    task = comparison.best.test.task
    curve = pictures.learning_curve(
        {entrant.name: entrant.learning_curve for entrant in comparison.entrants},
        task.metric(task.loss).title.lower(),
    )
    if curve is not None:
        shown.append(Plot("learning", "Learning curve", "Validation decides when to stop.", curve))
    return shown


def _importance_plot(found: Explanation) -> Plot:
    height = 0.9 + 0.185 * min(_MOST_IMPORTANT, len(found.features))
    return Plot("importance", "Importances", "", _importance(found), height=height)


def _importance(found: Explanation, top: int = _MOST_IMPORTANT) -> pictures.Draw:
    return pictures.importance(found.importance, top, of=found.of)


def _searches(comparison: Comparison) -> "list[tuple[SearchResult, list[_Figure]]]":
    from mlops_assets.training.tuning.pictures import search_plots

    return [
        (found, [_Figure.of(plot) for plot in search_plots(found)])
        for found in comparison.searches.values()
    ]


def _slice_plots(slices: Sequence[SliceResult], comparison: Comparison) -> list[Plot]:
    """Return a picture of the primary metric for each column that has a value somewhere."""
    metric = comparison.primary
    shown = []
    for column in dict.fromkeys(found.column for found in slices):
        chosen = [found for found in slices if found.column == column]
        if any(found.metrics[metric.name].value is not None for found in chosen):
            overall = comparison.best.test.metrics[metric.name]
            draw = pictures.forest(chosen, metric.name, overall, metric.title)
            height = max(1.3, 0.6 + 0.235 * len(chosen))
            shown.append(Plot(column, column, "", draw, height=height))
    return shown


def _classes(test: Evaluation) -> list[_Class]:
    curves = test.curves
    if not isinstance(curves, MulticlassCurves):
        return []
    rows = curves.confusion.sum(axis=1)
    return [
        _Class(name, int(rows[i]), _defined(curves.precision[i]), _defined(curves.recall[i]))
        for i, name in enumerate(test.task.outputs)
    ]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _versions(
    training_set: TableVersion, inputs: Sequence[TableVersion]
) -> list[tuple[str, int, str]]:
    return [(str(training_set.table), training_set.version, "training set")] + [
        (str(table.table), table.version, "input") for table in inputs
    ]


def _number(value: float, like: float | None = None) -> str:
    """Return a number with as many digits as one of its size needs, or one like another."""
    size = abs(value if like is None else like)
    digits = next((digits for limit, digits in _DIGITS if size >= limit), 3)
    return f"{value:,.{digits}f}"
