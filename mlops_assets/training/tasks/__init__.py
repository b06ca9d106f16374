"""Tasks: what kind of label a family predicts, and everything that follows; one file a kind.

A task says how the label is read, which labels can be learnt from, what the columns of a model's
answer are, and by which metrics it is judged. It is the one place to extend for another kind of
label: estimators, metrics and reports ask here instead of comparing names.
"""

from mlops_assets.training.tasks.binary import Binary
from mlops_assets.training.tasks.kinds import declared_task, metric_titles, task_from, task_named
from mlops_assets.training.tasks.multiclass import Multiclass, in_order
from mlops_assets.training.tasks.regression import Regression
from mlops_assets.training.tasks.task import MOST_CLASSES, LabelFacts, Task, TaskError

__all__ = [
    "MOST_CLASSES",
    "Binary",
    "LabelFacts",
    "Multiclass",
    "Regression",
    "Task",
    "TaskError",
    "declared_task",
    "in_order",
    "metric_titles",
    "task_from",
    "task_named",
]
