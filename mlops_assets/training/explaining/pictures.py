"""Pictures of an explanation, in the style of `mlops_assets.training.pictures`, which renders them.

A function here draws one idea on given axes; those that need several small pictures divide the
place of their axes among them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.explaining.attribution import (
    CLEAR_DIRECTION,
    RowExplanations,
    ShapImportance,
)
from mlops_assets.training.explaining.explanation import ModelExplanation
from mlops_assets.training.explaining.fairness import Fairness, Figure, GroupFigure
from mlops_assets.training.explaining.partial_dependence import PartialDependence
from mlops_assets.training.explaining.permutation import PermutationImportance
from mlops_assets.training.metrics import Floats
from mlops_assets.training.pictures import Draw, Palette, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap

# Points are pixels, which take no colour from the page: these are readable on light and dark.
_LOW, _MIDDLE, _HIGH, _NO_VALUE = "#3b7dd8", "#a98fb0", "#e0632a", "#8593a5"
_LANE = 0.36  # how far the points of one lane of the beeswarm may lie from its middle
_BINS = 60
_SHOWN_SHARE = (0.002, 0.998)  # of the points; the others stand at the edge
_TICKS = 4

SHOWN_SHUFFLED = 20
"""Most features or views in a picture of permutation importance."""


def shap_importance(found: Sequence[ShapImportance], of: str, top: int = 20) -> Draw:
    """Draw the size of the largest SHAP values, coloured by the direction of the effect."""

    def draw(axes: "Axes", palette: Palette) -> None:
        shown = [one for one in found if one.size.value is not None][:top][::-1]
        for height, one in enumerate(shown):
            axes.barh(height, one.size.value or 0, height=0.62, color=_of_direction(one, palette))
            _whisker(axes, one.size, height, palette.ink, 0.9)
        _lanes(axes, [one.feature for one in shown], palette)
        axes.set(xlabel=f"mean |SHAP value| ({of})", xlim=(0, None))
        for color, label in (
            (palette.yes, "larger: up"),
            (palette.series[0], "larger: down"),
            (palette.no, "mixed or category"),
        ):
            axes.barh([0], [0], color=color, label=label)
        axes.figure.legend(loc="outside upper right", ncols=3, handlelength=1)

    return draw


def beeswarm(importance: Sequence[ShapImportance], rows: RowExplanations, top: int = 12) -> Draw:
    """Draw every sampled row's SHAP value of the largest features, coloured by the value's rank.

    Grey points are categories and missing values. A pointer at the edge lies beyond it: a few
    extreme rows would squeeze all the others together.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        from matplotlib.cm import ScalarMappable

        shown = importance[:top][::-1]
        columns = [list(rows.features.columns).index(one.feature) for one in shown]
        low, high = np.quantile(rows.contributions[:, columns], _SHOWN_SHARE)
        least, most = min(0.0, float(low)), max(0.0, float(high))
        colors = _value_colors()
        axes.axvline(0, color=palette.muted, linewidth=0.9)
        for height, (one, column) in enumerate(zip(shown, columns, strict=True)):
            values = rows.contributions[:, column]
            ranks = _ranks(rows.features[one.feature].to_numpy()) if not one.categorical else None
            lane = height + _LANE * _swarm(np.clip(values, least, most))
            for chosen, marker in (
                ((least <= values) & (values <= most), "o"),
                (values < least, "<"),
                (values > most, ">"),
            ):
                _points(axes, values.clip(least, most), lane, ranks, chosen, marker)
        _lanes(axes, [one.feature for one in shown], palette)
        axes.set(xlabel=f"SHAP value (adds to {rows.of})")
        bar = axes.figure.colorbar(
            ScalarMappable(cmap=colors), ax=axes, ticks=[0, 1], aspect=40, pad=0.02, fraction=0.03
        )
        bar.ax.set_yticklabels(["low", "high"])
        bar.ax.tick_params(length=0)
        bar.outline.set_visible(False)
        bar.set_label("value of the feature", labelpad=-14)

    return draw


def permutation(
    found: Sequence[PermutationImportance], metric: str, top: int = SHOWN_SHUFFLED
) -> Draw:
    """Draw what shuffling costs in a metric, with intervals over the repeats."""

    def draw(axes: "Axes", palette: Palette) -> None:
        shown = [one for one in found if one.loss.value is not None][:top][::-1]
        axes.axvline(0, color=palette.muted, linewidth=0.9)
        for height, one in enumerate(shown):
            color = palette.muted if _holds_zero(one.loss) else palette.series[0]
            _dot(axes, one.loss, height, color, palette)
        labels = [
            one.name if len(one.features) == 1 else f"{one.name}  ·  {len(one.features)}"
            for one in shown
        ]
        _lanes(axes, labels, palette)
        axes.set(xlabel=f"loss of {metric} when shuffled")

    return draw


def dependence(found: PartialDependence) -> Draw:
    """Draw the mean answer over the values of a feature, with bands of the single rows' answers.

    Numbers stand at equal distances by quantile, so that each stretch of the axis holds as many
    rows as any other. The outer band may run out of the picture.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        if found.categorical:
            _over_categories(axes, palette, found)
        else:
            _over_numbers(axes, palette, found)
        axes.set(xlabel=found.feature, ylabel=f"mean {found.output}")

    return draw


def dependence_grid(found: Sequence[PartialDependence], columns: int = 4) -> Draw:
    """Draw several dependences side by side, each on a scale of its own."""

    def draw(axes: "Axes", palette: Palette) -> None:
        small = _divided(axes, (len(found) + columns - 1) // columns, columns)
        for i, place in enumerate(small):
            if i >= len(found):
                place.remove()
                continue
            dependence(found[i])(place, palette)
            if i % columns:
                place.set_ylabel("")

    return draw


def group_figures(found: Fairness, column: str) -> Draw:
    """Draw every fairness figure of a slice's groups beside each other."""

    def draw(axes: "Axes", palette: Palette) -> None:
        here = [one for one in found.groups if one.column == column]
        names = list(dict.fromkeys(one.group for one in here))[::-1]
        for i, (place, figure) in enumerate(
            zip(_divided(axes, 1, len(found.figures)), found.figures, strict=True)
        ):
            by_group = {one.group: one for one in here if one.figure == figure.name}
            overall = found.overall[figure.name]
            _groups(place, palette, figure, overall, [by_group[name] for name in names])
            if i:
                place.set_yticklabels([])

    return draw


def largest_outputs(found: Sequence[PartialDependence]) -> list[PartialDependence]:
    """Keep, for each feature, the output that depends on it most."""
    best: dict[str, PartialDependence] = {}
    for one in found:
        if one.feature not in best or one.spread > best[one.feature].spread:
            best[one.feature] = one
    return list(best.values())


def pictures_of(explanation: ModelExplanation) -> dict[str, bytes]:
    """Return small PNG pictures of an explanation, by name, for metadata in a UI."""
    rows = explanation.attribution.rows
    drawn = {
        "shap_importance": png(
            shap_importance(explanation.attribution.importance, rows.of, top=14), height=3.6
        ),
        "shap_beeswarm": png(
            beeswarm(explanation.attribution.importance, rows, top=10), height=3.6
        ),
        "partial_dependence": png(
            dependence_grid(largest_outputs(explanation.dependence)[:4], columns=2), height=4.2
        ),
        "permutation": png(
            permutation(
                explanation.permuted_views or explanation.permuted, explanation.metric_title, 14
            ),
            height=3.6,
        ),
    }
    for column in explanation.fairness.columns[:1]:
        groups = {one.group for one in explanation.fairness.groups if one.column == column}
        drawn[f"fairness_{column}"] = png(
            group_figures(explanation.fairness, column), 7.2, max(1.8, 0.8 + 0.2 * len(groups))
        )
    return drawn


def _divided(axes: "Axes", rows: int, columns: int) -> "list[Axes]":
    figure = axes.get_figure()
    assert figure is not None  # noqa: S101 - axes that are drawn on have one
    axes.remove()
    places: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).ravel())
    return places


def _points(
    axes: "Axes",
    values: Floats,
    lane: Floats,
    ranks: Floats | None,
    chosen: NDArray[np.bool_],
    marker: str,
) -> None:
    """Draw the chosen points, coloured by rank where they have one."""
    known = chosen & np.isfinite(ranks) if ranks is not None else np.zeros_like(chosen)
    style: dict[str, Any] = {
        "s": 4 if marker == "o" else 12,
        "marker": marker,
        "linewidths": 0,
        "rasterized": True,
    }
    rest = chosen & ~known
    axes.scatter(values[rest], lane[rest], color=_NO_VALUE, **style)
    if ranks is not None:
        axes.scatter(values[known], lane[known], c=ranks[known], cmap=_value_colors(), vmin=0,
                     vmax=1, **style)  # fmt: skip


def _lanes(axes: "Axes", labels: Sequence[str], palette: Palette) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.tick_params(axis="y", labelcolor=palette.ink, length=0)
    axes.grid(visible=False, axis="y")


def _of_direction(one: ShapImportance, palette: Palette) -> str:
    if one.direction is None or abs(one.direction) < CLEAR_DIRECTION:
        return palette.no
    return palette.yes if one.direction > 0 else palette.series[0]


def _whisker(axes: "Axes", found: Estimate, height: float, color: str, width: float) -> None:
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [height, height], color=color, linewidth=width)


def _dot(axes: "Axes", found: Estimate, height: float, color: str, palette: Palette) -> None:
    _whisker(axes, found, height, color, 2.0)
    if found.value is not None:
        axes.plot([found.value], [height], "o", color=color, markersize=5.5,
                  markeredgecolor=palette.surface)  # fmt: skip


def _holds_zero(found: Estimate) -> bool:
    return found.low is not None and found.high is not None and found.low <= 0 <= found.high


def _value_colors() -> "LinearSegmentedColormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("values", [_LOW, _MIDDLE, _HIGH])


def _ranks(values: Floats) -> Floats:
    """Return each value's place among the known ones, from 0 to 1; NaN where missing."""
    from scipy.stats import rankdata

    numbers = np.asarray(values, dtype=np.float64)
    ranks = np.full(len(numbers), np.nan)
    known = np.isfinite(numbers)
    if known.sum() > 1:
        ranks[known] = (rankdata(numbers[known]) - 1) / (known.sum() - 1)
    elif known.any():
        ranks[known] = 0.5
    return ranks


def _swarm(values: Floats) -> Floats:
    """Spread points that lie close together over their lane, from -1 to 1, densest widest."""
    if np.ptp(values) == 0:
        return np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(len(values))
    cell = ((values - values.min()) / np.ptp(values) * (_BINS - 1)).astype(int)
    counts = np.bincount(cell, minlength=_BINS)
    order = np.argsort(cell, kind="stable")
    first = np.r_[0, np.cumsum(counts)[:-1]]
    place = np.empty(len(values))
    place[order] = np.arange(len(values)) - first[cell[order]]
    centred = np.where(place % 2, -(place + 1) / 2, place / 2)
    spread: Floats = centred / max(1.0, float(np.abs(centred).max()))
    return spread


def _over_numbers(axes: "Axes", palette: Palette, found: PartialDependence) -> None:
    numbers = [value for value in found.values if isinstance(value, float)]
    places = np.arange(len(numbers))
    known, color = slice(0, len(numbers)), palette.series[0]
    for low, high, alpha in ((0, 3, 0.1), (1, 2, 0.2)):
        axes.fill_between(places, found.ice[known, low], found.ice[known, high], color=color,
                          alpha=alpha, linewidth=0)  # fmt: skip
    axes.plot(places, found.mean[known], color=color, marker="o", markersize=3)
    if len(numbers) < len(found.values):
        axes.axhline(found.mean[-1], color=palette.yes, linewidth=1, linestyle=(0, (3, 2)))
        below = len(numbers) > 0 and found.mean[len(numbers) - 1] > found.mean[-1]
        axes.annotate(
            "missing", (0.99, found.mean[-1]), (0, -2 if below else 2), ha="right",
            va="top" if below else "bottom", xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=7.5, color=palette.yes,
        )  # fmt: skip
    inner = np.r_[found.ice[:, 1], found.ice[:, 2], found.mean]
    room = 0.08 * float(np.ptp(inner)) or 1e-6
    axes.set_ylim(inner.min() - room, inner.max() + room)
    ticks = sorted({i * (len(numbers) - 1) // (_TICKS - 1) for i in range(_TICKS) if numbers})
    axes.set_xticks(ticks, [_short(numbers[i]) for i in ticks])


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _over_categories(axes: "Axes", palette: Palette, found: PartialDependence) -> None:
    order = np.argsort(found.mean, kind="stable")
    color = palette.series[0]
    for height, i in enumerate(order):
        axes.plot(found.ice[i, [0, 3]], [height, height], color=color, alpha=0.25, linewidth=2.5)
        axes.plot(found.ice[i, [1, 2]], [height, height], color=color, alpha=0.45, linewidth=4)
        axes.plot([found.mean[i]], [height], "o", color=color, markersize=5,
                  markeredgecolor=palette.surface)  # fmt: skip
    _lanes(axes, [str(found.values[i]) for i in order], palette)


def _groups(
    axes: "Axes",
    palette: Palette,
    figure: Figure,
    overall: Estimate,
    found: Sequence[GroupFigure],
) -> None:
    if not figure.is_share:
        axes.axvline(0, color=palette.muted, linewidth=0.9)
    if overall.value is not None:
        axes.axvline(overall.value, color=palette.muted, linewidth=0.9, linestyle=(0, (4, 4)))
    for height, one in enumerate(found):
        _dot(axes, one.estimate, height, palette.muted if one.small else palette.series[0], palette)
    _lanes(axes, [one.group for one in found], palette)
    axes.set_xlabel(figure.title)
    axes.locator_params(axis="x", nbins=4)
