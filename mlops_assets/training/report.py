"""The evaluation report: one HTML file that needs nothing else, with everything about a comparison.

Here the numbers of an evaluation are put in order for the page; the page itself is
`templates/report.html.j2`, the drawing is in `mlops_assets.training.pictures`.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlops_assets.lake import TableVersion
from mlops_assets.training import pictures
from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.candidate import resampling_for
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator, Explanation, LearningCurve
from mlops_assets.training.evaluation import Evaluation, choose_threshold, evaluate
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.metrics import METRICS, MetricError
from mlops_assets.training.training_set import TrainingSet

EXPLAINED_ROWS = 5000
"""Test rows, drawn at random by the seed, over which SHAP values are averaged."""


@dataclass(frozen=True)
class Entrant:
    """One candidate as the report shows it.

    Attributes
    ----------
    name, algorithm, parameters
        What it is.
    validation, test
        How it does.
    learning_curve, explanation
        How it learnt, and what moves it.
    """

    name: str
    algorithm: str
    parameters: Mapping[str, Any]
    validation: Evaluation
    test: Evaluation
    learning_curve: LearningCurve
    explanation: Explanation


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
    """

    family: ModelFamily
    training_set: TrainingSet
    entrants: tuple[Entrant, ...]
    chosen: str
    baseline: Evaluation
    facts: Mapping[str, str]

    @property
    def best(self) -> Entrant:
        """The entrant that was chosen."""
        return next(entrant for entrant in self.entrants if entrant.name == self.chosen)


def enter(
    name: str,
    algorithm: str,
    estimator: Estimator,
    parts: Mapping[str, Part],
    family: ModelFamily,
    *,
    seed: int,
) -> Entrant:
    """Evaluate and explain a trained model for the report.

    Parameters
    ----------
    name, algorithm
        What it is.
    estimator
        The model, freshly trained or loaded from the registry.
    parts
        `validation` and `test` of the training set it learnt from.
    family
        The declaration.
    seed
        The deployment's; the family's own wins.
    """
    resampling = resampling_for(family, seed)
    validation, test = parts["validation"], parts["test"]
    answers = estimator.predict(validation.features)
    threshold = choose_threshold(validation, answers, family.threshold)
    generator = np.random.default_rng(resampling.seed)
    rows = np.sort(generator.permutation(len(test))[:EXPLAINED_ROWS])
    return Entrant(
        name=name,
        algorithm=algorithm,
        parameters=dict(estimator.parameters),
        validation=evaluate(validation, answers, family, resampling, threshold),
        test=evaluate(test, estimator.predict(test.features), family, resampling, threshold),
        learning_curve=estimator.learning_curve,
        explanation=estimator.explain(test.features.iloc[rows]),
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
    from markupsafe import Markup

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
    drawn = {name: Markup(text) for name, text in _drawings(comparison).items()}  # noqa: S704  # our own SVG; names in it are escaped by matplotlib
    return environment.get_template("report.html.j2").render(
        it=comparison,
        family=comparison.family,
        best=comparison.best,
        audit=comparison.training_set.audit,
        metrics=METRICS,
        primary=METRICS[comparison.family.primary_metric],
        drawn=drawn,
        slice_columns=tuple(dict.fromkeys(s.column for s in comparison.best.test.slices)),
        slice_metrics=_slice_metrics(comparison),
        versions=_versions(comparison.training_set.version, comparison.training_set.inputs),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def pictures_as_markdown(comparison: Comparison) -> dict[str, str]:
    """Return small pictures as Markdown images with the data inside, for metadata in a UI."""
    test = {entrant.name: entrant.test for entrant in comparison.entrants}
    drawings = {
        "roc": pictures.roc(test),
        "precision_recall": pictures.precision_recall(test),
        "calibration": pictures.calibration(test),
        "importance": pictures.importance(comparison.best.explanation.importance, top=12),
    }
    return {name: markdown_image(name, pictures.png(draw)) for name, draw in drawings.items()}


def markdown_image(title: str, image: bytes) -> str:
    """Embed a PNG in Markdown as a data URI."""
    return f"![{title}](data:image/png;base64,{b64encode(image).decode('ascii')})"


def _drawings(comparison: Comparison) -> dict[str, str]:
    best = comparison.best
    test = {entrant.name: entrant.test for entrant in comparison.entrants}
    drawn = {
        "roc": pictures.svg(pictures.roc(test)),
        "precision_recall": pictures.svg(pictures.precision_recall(test)),
        "calibration": pictures.svg(pictures.calibration(test)),
        "histogram": pictures.svg(pictures.score_histogram(best.test)),
    }
    hours = pictures.errors_by_hour(best.test)
    if hours is not None:
        drawn["hours"] = pictures.svg(hours)
    curve = pictures.learning_curve({e.name: e.learning_curve for e in comparison.entrants})
    if curve is not None:
        drawn["learning"] = pictures.svg(curve)
    for entrant in comparison.entrants:
        drawn[f"importance:{entrant.name}"] = pictures.svg(
            pictures.importance(entrant.explanation.importance), height=4.6
        )
    metric = METRICS[comparison.family.primary_metric]
    for column in dict.fromkeys(found.column for found in best.test.slices):
        chosen = [found for found in best.test.slices if found.column == column]
        if any(found.metrics[metric.name].value is not None for found in chosen):
            draw = pictures.forest(
                chosen, metric.name, best.test.metrics[metric.name], metric.title
            )
            drawn[f"slice:{column}"] = pictures.svg(
                draw, height=max(1.3, 0.6 + 0.235 * len(chosen))
            )
    return drawn


def _slice_metrics(comparison: Comparison) -> tuple[str, ...]:
    slices = comparison.best.test.slices
    return tuple(slices[0].metrics) if slices else ()


def _versions(
    training_set: TableVersion, inputs: Sequence[TableVersion]
) -> list[tuple[str, int, str]]:
    return [(str(training_set.table), training_set.version, "training set")] + [
        (str(table.table), table.version, "input") for table in inputs
    ]


def _number(found: Estimate | float | None, digits: int = 3) -> str:
    value = found.value if isinstance(found, Estimate) else found
    if value is None:
        reason = found.reason if isinstance(found, Estimate) else ""
        raise MetricError(f"a missing number was to be shown: {reason}")
    return f"{value:.{digits}f}"
