"""The kinds of task there are, found by name, by declaration or by what was stored of one."""

from collections.abc import Mapping
from typing import Any

from mlops_assets.training.family import ModelFamily
from mlops_assets.training.tasks.binary import Binary
from mlops_assets.training.tasks.multiclass import Multiclass
from mlops_assets.training.tasks.regression import Regression
from mlops_assets.training.tasks.task import Task, TaskError

_KINDS: Mapping[str, type[Task]] = {kind.name: kind for kind in (Binary, Multiclass, Regression)}


def declared_task(family: ModelFamily) -> Task:
    """Return a family's task as it is declared: a multiclass one does not know its classes yet."""
    return Regression(family.quantiles) if family.quantiles else task_named(family.task)


def task_named(name: str) -> Task:
    """Return the task of that name, with neither classes nor quantiles of its own.

    Raises
    ------
    TaskError
        When there is none.
    """
    if name not in _KINDS:
        raise TaskError(f"there is no task {name!r}; available: {', '.join(_KINDS)}")
    return _KINDS[name]()


def task_from(state: Mapping[str, Any]) -> Task:
    """Return the task that `Task.state` described.

    Raises
    ------
    TaskError
        When it describes none.
    """
    values = {key: tuple(value) for key, value in state.items() if key != "name"}
    try:
        return _KINDS[state["name"]](**values)
    except (KeyError, TypeError) as error:
        raise TaskError(f"{dict(state)} describes no task: {error!r}") from error


def metric_titles() -> dict[str, str]:
    """Return what people call each metric of any task, by name."""
    kinds: tuple[Task, ...] = (Binary(), Multiclass(), Regression())
    return {name: metric.title for kind in kinds[::-1] for name, metric in kind.metrics.items()}
