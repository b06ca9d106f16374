"""Pictures of a search: how it went, what mattered, and where in the space good trials are."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.training.family_search import Choices, SearchRange
from mlops_assets.training.pictures import Draw, Palette, Plot, png
from mlops_assets.training.pictures.canvas import DASHES
from mlops_assets.training.tuning.result import SearchResult, TrialRecord, TrialState

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY_AXES = 10
_LEAST_REACH = 0.002  # of the best value: less is no difference that a picture should magnify


def search_plots(found: SearchResult) -> tuple[Plot, ...]:
    """Return what there is to draw of a search, in the order to read it.

    Parameters
    ----------
    found
        The search.
    """
    title = found.metric_title
    way = "higher" if found.greater_is_better else "lower"
    plots = [
        Plot(
            "history",
            "History",
            f"Each trial's {title} on validation ({way} is better) and the best so far. Trials far "
            "from the best stand at the edge.",
            history(found),
            small=True,
        )
    ]
    if len(found.importance) > 1:
        plots.append(
            Plot(
                "parameter_importance",
                "What mattered",
                "Share of each parameter in whether a trial is among the best, by PED-ANOVA over "
                "the complete trials.",
                importance(found),
                small=True,
                height=max(1.6, 0.6 + 0.3 * len(found.importance)),
            )
        )
    if len(found.space) > 1 and len(_complete(found)) > 1:
        plots.append(
            Plot(
                "parallel_coordinates",
                "Trials across the space",
                f"A line a complete trial, the best quarter in colour; the last axis is {title}, "
                "its best end up.",
                parallel_coordinates(found),
                height=3.4,
            )
        )
    plots += [
        Plot(
            f"slice_{name}",
            name,
            f"{title} over {name}; later trials are darker, the best is marked.",
            along(found, name),
            height=2.8,
        )
        for name in found.space
    ]
    return tuple(plots)


def search_pictures(found: SearchResult) -> Mapping[str, bytes]:
    """Return the few pictures worth a small place, as PNG by name.

    Parameters
    ----------
    found
        The search.
    """
    return {plot.name: png(plot.draw) for plot in search_plots(found) if plot.small}


def history(found: SearchResult) -> Draw:
    """Draw the value of each trial, the best so far, and those that were pruned or failed."""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: "Axes", palette: Palette) -> None:
        complete, pruned = _complete(found), _comparable_pruned(found)
        low, high = _limits(found)
        best = (np.maximum if found.greater_is_better else np.minimum).accumulate(
            [_value(trial) for trial in complete]
        )
        last = found.trials[-1].number
        if found.declared_value is not None:
            axes.axhline(found.declared_value, color=palette.muted, linewidth=0.9,
                         linestyle=DASHES, label="declared")  # fmt: skip
        axes.step(
            [*(t.number for t in complete), last], [*best, best[-1]],
            where="post", color=palette.series[0], label="best so far",
        )  # fmt: skip
        _dots(axes, palette, found, complete, low, high)
        if pruned:
            axes.plot(
                [t.number for t in pruned], np.clip([t.loss or 0.0 for t in pruned], low, high),
                linestyle="", marker="x", markersize=4, color=palette.muted, label="pruned",
            )  # fmt: skip
        if failed := [t.number for t in found.trials if t.state is TrialState.FAILED]:
            axes.plot(
                failed, [0.015] * len(failed), transform=axes.get_xaxis_transform(),
                linestyle="", marker="|", markersize=9, color=palette.yes, label="failed",
                clip_on=False,
            )  # fmt: skip
        if not found.metric_is_loss and (
            rug := [t.number for t in found.trials if t.state is TrialState.PRUNED]
        ):
            axes.plot(
                rug, [0.985] * len(rug), transform=axes.get_xaxis_transform(),
                linestyle="", marker="x", markersize=4, color=palette.muted, label="pruned",
            )  # fmt: skip
        margin = 0.06 * (high - low)
        axes.set(xlabel="trial", ylabel=found.metric_title, ylim=(low - margin, high + margin))
        axes.set_xlim(-0.5, max(last, 1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best", ncols=2)

    return draw


def importance(found: SearchResult) -> Draw:
    """Draw the share of each parameter, the largest on top."""

    def draw(axes: "Axes", palette: Palette) -> None:
        shown = list(found.importance.items())[::-1]
        bars = axes.barh([name for name, _ in shown], [share for _, share in shown],
                         color=palette.series[0], height=0.62)  # fmt: skip
        axes.bar_label(bars, [f"{share:.0%}" for _, share in shown], padding=3, fontsize=8)
        axes.set(xlabel="share of importance", xlim=(0, 1.12 * shown[-1][1]))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=palette.ink, length=0)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")

    return draw


def along(found: SearchResult, name: str) -> Draw:
    """Draw the value of each trial over one parameter.

    Parameters
    ----------
    found
        The search.
    name
        Of the parameter.
    """
    declared = found.space[name]

    def draw(axes: "Axes", palette: Palette) -> None:
        complete = [t for t in _complete(found) if name in t.parameters]
        pruned = [t for t in _comparable_pruned(found) if name in t.parameters]
        low, high = _limits(found)
        places, names = _places(declared, [t.parameters[name] for t in (*complete, *pruned)])
        if pruned:
            axes.plot(
                places[len(complete) :], np.clip([t.loss or 0.0 for t in pruned], low, high),
                linestyle="", marker="x", markersize=4, color=palette.muted, alpha=0.6,
                label="pruned",
            )  # fmt: skip
        _dots(axes, palette, found, complete, low, high, places[: len(complete)])
        if names:
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.5, len(names) - 0.5)
        elif not isinstance(declared, Choices):
            axes.set_xscale("log" if declared.log else "linear")
            axes.set_xlim(*_widened(declared.low, declared.high, log=declared.log))
        margin = 0.06 * (high - low)
        axes.set(xlabel=name, ylabel=found.metric_title, ylim=(low - margin, high + margin))
        if pruned:
            axes.legend(loc="best")

    return draw


def parallel_coordinates(found: SearchResult) -> Draw:
    """Draw a line a complete trial through the parameters that matter most to the value."""

    def draw(axes: "Axes", palette: Palette) -> None:
        order = sorted(found.space, key=lambda name: -found.importance.get(name, 0.0))
        names = order[:_MANY_AXES]
        whole = [t for t in _complete(found) if all(name in t.parameters for name in names)]
        if not whole:
            return
        ends: list[Mapping[float, str]] = []
        columns = []
        for name in names:
            declared = found.space[name]
            columns.append(_heights(declared, [t.parameters[name] for t in whole]))
            ends.append(_ends(declared))
        values = [_value(trial) for trial in whole]
        low, high = _limits(found)
        height = (np.clip(values, low, high) - low) / ((high - low) or 1.0)
        columns.append(height if found.greater_is_better else 1 - height)
        worst, best = (low, high) if found.greater_is_better else (high, low)
        ends.append({0.0: f"{worst:.4g}", 1.0: f"{best:.4g}"})
        good = np.argsort(np.argsort(-columns[-1])) < max(1, len(whole) // 4)
        for index, trial in enumerate(whole):
            is_best = trial.number == found.best.number
            axes.plot(
                range(len(columns)), [column[index] for column in columns],
                color=palette.yes if is_best else palette.series[0] if good[index] else palette.no,
                linewidth=2.2 if is_best else 1.1,
                alpha=1.0 if is_best else 0.75 if good[index] else 0.25,
                zorder=4 if is_best else 3 if good[index] else 2,
                label="best" if is_best else None,
            )  # fmt: skip
        for place, marks in enumerate(ends):
            axes.plot([place, place], [0, 1], color=palette.muted, linewidth=0.8, zorder=1)
            for at, text in marks.items():
                side = "top" if at == 0 else "bottom" if at == 1 else "center"
                shift = {"top": (0, -4), "bottom": (0, 4), "center": (4, 0)}[side]
                axes.annotate(text, (place, at), shift, textcoords="offset points", va=side,
                              ha="left" if side == "center" else "center", fontsize=7.5,
                              color=palette.muted, zorder=5)  # fmt: skip
        axes.set_xticks(range(len(columns)), [*names, found.metric_title])
        axes.tick_params(axis="x", labelcolor=palette.ink, length=0, pad=8, labelrotation=15)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.set(xlim=(-0.35, len(columns) - 0.65), ylim=(-0.08, 1.08))

    return draw


def _dots(
    axes: "Axes",
    palette: Palette,
    found: SearchResult,
    complete: Sequence[TrialRecord],
    low: float,
    high: float,
    places: Sequence[float] | None = None,
) -> None:
    """Draw complete trials: later ones darker, the best marked, far ones as a triangle there."""
    at = [trial.number for trial in complete] if places is None else places
    most = found.trials[-1].number or 1
    for trial, x in zip(complete, at, strict=True):
        y = _value(trial)
        marker = "^" if y > high else "v" if y < low else "o"
        best = trial.number == found.best.number
        axes.plot(
            [x], [min(max(y, low), high)], linestyle="", marker=marker, markersize=7 if best else 5,
            color=palette.yes if best else palette.series[0],
            alpha=1.0 if best else 0.3 + 0.6 * trial.number / most,
            markeredgecolor=palette.surface, markeredgewidth=0.6, zorder=4 if best else 3,
        )  # fmt: skip


def _complete(found: SearchResult) -> list[TrialRecord]:
    return [trial for trial in found.trials if trial.value is not None]


def _comparable_pruned(found: SearchResult) -> list[TrialRecord]:
    """Return pruned trials whose loss stands on the same axis as the values of the others."""
    if not found.metric_is_loss:
        return []
    return [t for t in found.trials if t.state is TrialState.PRUNED and t.loss is not None]


def _value(trial: TrialRecord) -> float:
    return math.nan if trial.value is None else trial.value


def _limits(found: SearchResult) -> tuple[float, float]:
    """Return the range worth seeing: a few hopeless trials must not flatten all others."""
    values = [_value(trial) for trial in _complete(found)]
    worst_first = np.sort(values)[:: 1 if found.greater_is_better else -1]
    best, middle = float(worst_first[-1]), float(np.median(values))
    reach = max(4 * abs(middle - best), _LEAST_REACH * abs(best)) or 1.0
    worst = float(worst_first[0])
    if found.greater_is_better:
        return max(worst, best - reach), best
    return best, min(worst, best + reach) if worst > best else best + reach


def _places(declared: SearchRange, values: Sequence[Any]) -> tuple[list[float], list[str]]:
    """Return where values stand on an axis, and the names of its ticks where it has no numbers."""
    if not isinstance(declared, Choices):
        return [float(value) for value in values], []
    names = [str(choice) for choice in declared.choices]
    return [float(names.index(str(value))) for value in values], names


def _heights(declared: SearchRange, values: Sequence[Any]) -> Any:
    """Return where values lie in their range, from 0 to 1."""
    if isinstance(declared, Choices):
        places, names = _places(declared, values)
        return np.array(places) / max(1, len(names) - 1)
    low, high, at = declared.low, declared.high, np.array(values, dtype=float)
    if declared.log:
        low, high, at = math.log(low), math.log(high), np.log(at)
    return (at - low) / (high - low)


def _ends(declared: SearchRange) -> Mapping[float, str]:
    """Return what is written at which height of a range's axis."""
    if isinstance(declared, Choices):
        names = [str(choice) for choice in declared.choices]
        return {place / max(1, len(names) - 1): name for place, name in enumerate(names)}
    return {0.0: f"{declared.low:g}", 1.0: f"{declared.high:g}"}


def _widened(low: float, high: float, *, log: bool) -> tuple[float, float]:
    if log:
        margin = (high / low) ** 0.03
        return low / margin, high * margin
    margin = 0.03 * (high - low)
    return low - margin, high + margin
