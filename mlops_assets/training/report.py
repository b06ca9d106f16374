"""The evaluation report: one HTML file that needs nothing else, with everything about a comparison.

It is written when candidates were compared, and again, with the chapters about what moves the
answers and about fairness, when the chosen one was explained. Here the numbers of an evaluation are
put in order for the page; the page itself is `templates/report.html.j2`, the drawing is in
`mlops_assets.training.pictures` and `mlops_assets.training.explaining`.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlops_assets.lake import TableVersion
from mlops_assets.training import pictures
from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.curves import MulticlassCurves
from mlops_assets.training.estimators import Estimator, LearningCurve
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.explaining import TABLES, GroupFigure, ModelExplanation, ShapImportance
from mlops_assets.training.explaining.plots import explanation_plots, fairness_plots
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.metrics import Metric
from mlops_assets.training.number_text import interval_text, measured_text, number_text
from mlops_assets.training.pictures import Plot
from mlops_assets.training.training_set import TrainingSet
from mlops_assets.training.tuning import SearchResult

if TYPE_CHECKING:
    from markupsafe import Markup

_LISTED_FEATURES = 25  # the largest of an explanation; all of them are in the lake


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
    """

    name: str
    algorithm: str
    parameters: Mapping[str, Any]
    validation: Evaluation
    test: Evaluation
    learning_curve: LearningCurve

    @classmethod
    def of(
        cls,
        name: str,
        algorithm: str,
        estimator: Estimator,
        evaluations: Mapping[str, Evaluation],
    ) -> Self:
        """Bring a trained model into the report.

        Parameters
        ----------
        name, algorithm
            What it is.
        estimator
            The model, freshly trained or loaded from the registry.
        evaluations
            How it does on `validation` and on `test`.
        """
        return cls(
            name=name,
            algorithm=algorithm,
            parameters=dict(estimator.parameters),
            validation=evaluations["validation"],
            test=evaluations["test"],
            learning_curve=estimator.learning_curve,
        )


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
    explanation
        What moves the one that was chosen, and how fair it is; None until it was explained.
    """

    family: ModelFamily
    training_set: TrainingSet
    entrants: tuple[Entrant, ...]
    chosen: str
    baseline: Evaluation
    facts: Mapping[str, str]
    searches: Mapping[str, SearchResult] = field(default_factory=dict)
    explanation: ModelExplanation | None = None

    @property
    def best(self) -> Entrant:
        """The entrant that was chosen."""
        return next(entrant for entrant in self.entrants if entrant.name == self.chosen)

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return self.best.test.task.metric(self.family.primary_metric)

    @property
    def on_test(self) -> dict[str, Evaluation]:
        """How each entrant does on test, by name."""
        return {entrant.name: entrant.test for entrant in self.entrants}


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
    environment.filters["number"] = number_text
    environment.filters["share"] = lambda value: f"{value:.1%}"
    environment.filters["value"] = lambda it: measured_text(it.value, it.low, it.high)
    environment.filters["interval"] = lambda it: interval_text(it.low, it.high, it.value)
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
        explained=_Explained.of(comparison.explanation) if comparison.explanation else None,
        slices=[
            _Figure.of(plot)
            for plot in pictures.slice_plots(
                best.test.slices,
                comparison.primary.name,
                best.test.metrics[comparison.primary.name],
                comparison.primary.title,
            )
        ],
        slice_metrics=tuple(best.test.slices[0].metrics) if best.test.slices else (),
        classes=_classes(best.test),
        searches=_searches(comparison),
        versions=_versions(comparison.training_set.version, comparison.training_set.inputs),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def pictures_as_markdown(comparison: Comparison) -> dict[str, str]:
    """Return small pictures as Markdown images with the data inside, for metadata in a UI."""
    return {
        plot.name: markdown_image(plot.name, pictures.png(plot.draw))
        for plot in pictures.plots(comparison.on_test, comparison.chosen)
        if plot.small
    }


def markdown_image(title: str, image: bytes) -> str:
    """Embed a PNG in Markdown as a data URI."""
    return f"![{title}](data:image/png;base64,{b64encode(image).decode('ascii')})"


@dataclass(frozen=True)
class _Figure:
    """A picture in the page."""

    title: str
    caption: str
    svg: "Markup"
    wide: bool

    @classmethod
    def of(cls, plot: Plot) -> "_Figure":
        from markupsafe import Markup

        drawn = Markup(plot.svg())  # noqa: S704  # our own SVG; names in it are escaped by matplotlib
        return cls(plot.title, plot.caption, drawn, plot.wide)


@dataclass(frozen=True)
class _Explained:
    """The chapters about what moves the answers, and about fairness, as the page shows them."""

    found: ModelExplanation
    figures: list[_Figure]
    features: list[tuple[ShapImportance, Estimate | None]]
    tables: tuple[str, ...]
    fairness: list[_Figure]
    titles: Mapping[str, str]
    groups: list[tuple[str, str, list[GroupFigure]]]

    @classmethod
    def of(cls, found: ModelExplanation) -> "_Explained":
        shuffled = {one.name: one.loss for one in found.permuted}
        groups: dict[tuple[str, str], list[GroupFigure]] = {}
        for one in found.fairness.groups:
            groups.setdefault((one.column, one.group), []).append(one)
        return cls(
            found=found,
            figures=[_Figure.of(plot) for plot in explanation_plots(found)],
            features=[
                (one, shuffled.get(one.feature))
                for one in found.attribution.importance[:_LISTED_FEATURES]
            ],
            tables=tuple(str(table.name) for table in TABLES),
            fairness=[_Figure.of(plot) for plot in fairness_plots(found.fairness)],
            titles={figure.name: figure.title for figure in found.fairness.figures},
            groups=[(column, group, figures) for (column, group), figures in groups.items()],
        )


@dataclass(frozen=True)
class _Class:
    """A class of a multiclass task as the page shows it; None where there is no such number."""

    name: str
    rows: int
    precision: float | None
    recall: float | None


def _plots(comparison: Comparison) -> list[Plot]:
    task = comparison.best.test.task
    return [
        *pictures.plots(comparison.on_test, comparison.chosen),
        *pictures.learning_curves(
            {entrant.name: entrant.learning_curve for entrant in comparison.entrants},
            task.metric(task.loss).title,
        ),
    ]


def _searches(comparison: Comparison) -> "list[tuple[SearchResult, list[_Figure]]]":
    from mlops_assets.training.tuning.pictures import search_plots

    return [
        (found, [_Figure.of(plot) for plot in search_plots(found)])
        for found in comparison.searches.values()
    ]


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
