"""The drawings of a model card, as the report draws them, with what each of them shows."""

from collections.abc import Iterator

from mlops_assets.registry.card.content import Picture
from mlops_assets.training import pictures
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.explaining import Fairness, ModelExplanation
from mlops_assets.training.explaining import pictures as explained
from mlops_assets.training.metrics import Metric


def calibration_pictures(test: Evaluation) -> tuple[Picture, ...]:
    """Draw predicted against observed on test."""
    return (
        Picture(
            title="Calibration on test",
            caption="On the diagonal, an answer means what it says.",
            svg=pictures.svg(pictures.calibration({"model": test})),
        ),
    )


def slice_pictures(test: Evaluation, metric: Metric) -> tuple[Picture, ...]:
    """Draw a metric of every slice, one picture a column."""
    found = []
    for column in dict.fromkeys(one.column for one in test.slices):
        chosen = [one for one in test.slices if one.column == column]
        if any(one.metrics[metric.name].value is not None for one in chosen):
            draw = pictures.forest(chosen, metric.name, test.metrics[metric.name], metric.title)
            found.append(
                Picture(
                    title=column,
                    caption="Beside each slice its rows; the dashed line is the value over all.",
                    svg=pictures.svg(draw, height=max(1.3, 0.6 + 0.235 * len(chosen))),
                )
            )
    return tuple(found)


def fairness_pictures(found: Fairness) -> tuple[Picture, ...]:
    """Draw the figures of every group, one picture a slice."""
    drawn = []
    for column in found.columns:
        groups = {one.group for one in found.groups if one.column == column}
        svg = pictures.svg(
            explained.group_figures(found, column),
            width=9.6,
            height=max(1.5, 0.7 + 0.22 * len(groups)),
        )
        drawn.append(
            Picture(
                title=column,
                caption="Dashed: all rows. Grey: too few rows to say much.",
                svg=svg,
                wide=True,
            )
        )
    return tuple(drawn)


def explanation_pictures(found: ModelExplanation) -> tuple[Picture, ...]:
    """Draw SHAP values, what shuffling costs, and partial dependence."""
    return tuple(_explanation_pictures(found))


def _explanation_pictures(found: ModelExplanation) -> Iterator[Picture]:
    attribution, rows = found.attribution, found.attribution.rows
    yield Picture(
        title="How much each feature moves the answer",
        caption="Mean absolute SHAP value with its interval; the colour is the direction.",
        svg=pictures.svg(explained.shap_importance(attribution.importance, found.of), height=5.2),
    )
    yield Picture(
        title="Row by row",
        caption=f"{len(rows)} single rows: right of zero, the feature pushed the score up. "
        "Grey: categories and missing values.",
        svg=pictures.svg(explained.beeswarm(attribution.importance, rows), height=5.2),
    )
    for title, shuffled in (
        ("Features shuffled", found.permuted),
        ("Feature views shuffled", found.permuted_views),
    ):
        if any(one.loss.value is not None for one in shuffled):
            count = min(len(shuffled), explained.SHOWN_SHUFFLED)
            yield Picture(
                title=title,
                caption="What the model loses without them; the interval is over repeats.",
                svg=pictures.svg(
                    explained.permutation(shuffled, found.metric_title),
                    height=max(1.6, 0.7 + 0.225 * count),
                ),
            )
    if found.dependence:
        shown = explained.largest_outputs(found.dependence)
        yield Picture(
            title="Partial dependence",
            caption="Mean answer when one feature is set to a value, by the feature's quantiles; "
            "the bands hold half and four fifths of the single rows.",
            svg=pictures.svg(
                explained.dependence_grid(shown), width=9.6, height=2.3 * -(-len(shown) // 4)
            ),
            wide=True,
        )
