"""What there is to draw of an explanation, in the order to read it, and what each picture shows."""

from mlops_assets.training.explaining import pictures
from mlops_assets.training.explaining.explanation import ModelExplanation
from mlops_assets.training.explaining.fairness import Fairness
from mlops_assets.training.pictures import Plot


def explanation_plots(found: ModelExplanation) -> list[Plot]:
    """Return SHAP values over all and row by row, what shuffling costs, and partial dependence."""
    attribution, rows = found.attribution, found.attribution.rows
    plots = [
        Plot(
            "shap_importance",
            "How much each feature moves the answer",
            "Mean absolute SHAP value with its interval; the colour is the direction.",
            pictures.shap_importance(attribution.importance, found.of),
            height=5.2,
        ),
        Plot(
            "shap_beeswarm",
            "Row by row",
            f"{len(rows)} single rows: right of zero, the feature pushed the score up. "
            "Grey: categories and missing values.",
            pictures.beeswarm(attribution.importance, rows),
            height=5.2,
        ),
    ]
    for name, title, shuffled in (
        ("permutation", "Features shuffled", found.permuted),
        ("permutation_views", "Feature views shuffled", found.permuted_views),
    ):
        if any(one.loss.value is not None for one in shuffled):
            count = min(len(shuffled), pictures.SHOWN_SHUFFLED)
            plots.append(
                Plot(
                    name,
                    title,
                    "What the model loses without them; the interval is over repeats.",
                    pictures.permutation(shuffled, found.metric_title),
                    height=max(1.6, 0.7 + 0.225 * count),
                )
            )
    if found.dependence:
        shown = pictures.largest_outputs(found.dependence)
        plots.append(
            Plot(
                "partial_dependence",
                "Partial dependence",
                "Mean answer when one feature is set to a value, by the feature's quantiles; "
                "the bands hold half and four fifths of the single rows.",
                pictures.dependence_grid(shown),
                height=2.3 * -(-len(shown) // 4),
                wide=True,
            )
        )
    return plots


def fairness_plots(found: Fairness) -> list[Plot]:
    """Return the figures of every group, one picture a slice."""
    return [
        Plot(
            column,
            column,
            "Dashed: all rows. Grey: too few rows to say much.",
            pictures.group_figures(found, column),
            height=max(
                1.5, 0.7 + 0.22 * len({one.group for one in found.groups if one.column == column})
            ),
            wide=True,
        )
        for column in found.columns
    ]
