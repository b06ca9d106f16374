"""Pictures of a search show each trial where it is, and the best so far."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mlops_assets.training.family_search import SearchDeclaration
from mlops_assets.training.pictures import LIGHT, Draw, svg
from mlops_assets.training.tuning import SearchResult, TrialRecord, TrialState
from mlops_assets.training.tuning.pictures import (
    along,
    history,
    importance,
    parallel_coordinates,
    search_pictures,
    search_plots,
)

SPACE = SearchDeclaration.model_validate(
    {
        "space": {
            "rate": {"kind": "float", "low": 0.001, "high": 1.0, "log": True},
            "depth": {"kind": "int", "low": 2, "high": 10},
            "kind": {"kind": "categorical", "choices": ["plain", "ordered", None]},
        }
    }
).space


def trial(number: int, value: float | None, state: str = "complete", **more: Any) -> TrialRecord:
    parameters: Mapping[str, Any] = {
        "rate": 10.0 ** -(number % 4),
        "depth": 2 + number % 9,
        "kind": ["plain", "ordered", None][number % 3],
    }
    return TrialRecord(
        number=number,
        state=TrialState(state),
        value=value,
        parameters=more.get("parameters", parameters),
        declared=number == 0,
        seconds=1.0,
        iterations=10,
        loss=more.get("loss", value),
        reason="" if state == "complete" else state,
        started_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


TRIALS = (
    trial(0, 0.50, parameters={"depth": 6}),  # the declared one knows not all of its parameters
    trial(1, 0.52),
    trial(2, None, "failed", loss=None),
    trial(3, 0.45),
    trial(4, 9.0),
    trial(5, None, "pruned", loss=0.6),
    trial(6, 0.47),
    trial(7, 0.44),
)


def result(greater_is_better: bool = False, **changes: Any) -> SearchResult:
    trials = changes.pop("trials", TRIALS)
    complete = [one for one in trials if one.value is not None]
    choose = max if greater_is_better else min
    given: dict[str, Any] = {
        "study": "s", "family": "late", "candidate": "catboost", "metric": "log_loss",
        "metric_title": "Log loss", "greater_is_better": greater_is_better,
        "metric_is_loss": not greater_is_better, "space": SPACE, "trials": trials, "resumed": 0,
        "best": choose(complete, key=lambda one: one.value or 0.0), "best_parameters": {},
        "importance": {"rate": 0.7, "depth": 0.2, "kind": 0.1}, "ended_by": "trials",
        "seconds": 1.0, "seed": 1, "threads": 1, "workers": 1, "train_rows": 1,
        "validation_rows": 1,
    }  # fmt: skip
    return SearchResult(**{**given, **changes})


def drawn(draw: Draw) -> Axes:
    axes = Figure().add_subplot()
    draw(axes, LIGHT)
    return axes


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return list(map(float, found.get_xdata())), list(map(float, found.get_ydata()))  # type: ignore[arg-type]  # plain arrays


def test_history_shows_the_best_so_far_and_what_became_of_the_others() -> None:
    axes = drawn(history(result()))
    assert line(axes, "best so far") == (
        [0, 1, 3, 4, 6, 7, 7],
        [0.5, 0.5, 0.45, 0.45, 0.45, 0.44, 0.44],
    )
    assert set(line(axes, "declared")[1]) == {0.5}
    assert line(axes, "pruned") == ([5], [0.6])
    assert line(axes, "failed")[0] == [2]
    # One far trial does not flatten the others: it stands at the edge.
    low, high = axes.get_ylim()
    assert low < 0.44
    assert high < 1.0


def test_history_of_a_metric_that_grows_and_is_not_the_loss() -> None:
    axes = drawn(history(result(greater_is_better=True)))
    assert line(axes, "best so far")[1] == [0.5, 0.52, 0.52, 9.0, 9.0, 9.0, 9.0]
    assert line(axes, "pruned") == ([5], [0.985]), "its loss has another scale; it is only marked"


def test_importance_has_the_largest_on_top() -> None:
    axes = drawn(importance(result()))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["kind", "depth", "rate"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]  # type: ignore[attr-defined]  # bars


def test_a_slice_stands_on_the_scale_of_its_range() -> None:
    rate = drawn(along(result(), "rate"))
    assert rate.get_xscale() == "log"
    places = {float(x) for one in rate.lines for x in one.get_xdata()}  # type: ignore[union-attr]  # arrays
    assert places == {t.parameters["rate"] for t in TRIALS if "rate" in t.parameters} - {0.01} | {
        0.01
    }
    kind = drawn(along(result(), "kind"))
    assert [label.get_text() for label in kind.get_xticklabels()] == ["plain", "ordered", "None"]


def test_parallel_coordinates_have_a_line_for_each_whole_trial_with_the_best_end_up() -> None:
    axes = drawn(parallel_coordinates(result()))
    lines = [one for one in axes.lines if len(one.get_xdata()) == 4]  # type: ignore[arg-type]  # arrays
    assert len(lines) == 5
    heights = np.array([np.asarray(one.get_ydata(), dtype=float) for one in lines])
    assert ((heights >= 0) & (heights <= 1)).all()
    assert heights[-1, -1] == heights[:, -1].max() == 1
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["rate", "depth", "kind", "Log loss"]


@pytest.mark.parametrize("trials", [TRIALS, TRIALS[:1], TRIALS[:3]])
def test_all_can_be_drawn_for_the_page_and_small(trials: tuple[TrialRecord, ...]) -> None:
    few = {} if len(trials) < 4 else {"rate": 0.7, "depth": 0.2, "kind": 0.1}
    found = result(trials=trials, importance=few)
    plots = search_plots(found)
    assert {"history", "slice_rate", "slice_depth", "slice_kind"} <= {plot.name for plot in plots}
    for plot in plots:
        page = svg(plot.draw, height=plot.height)
        assert "var(--" in page
        assert not re.search(r"#0([0-9a-f])0\1", page), "a colour that the page cannot change"
    for name, data in search_pictures(found).items():
        with Image.open(BytesIO(data)) as image:
            assert image.size[0] >= 300, name
            assert len(set(image.convert("L").get_flattened_data())) > 3, f"{name} is blank"
