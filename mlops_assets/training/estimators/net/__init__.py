"""The deep tabular net: TabM on piecewise-linear embeddings of numbers, in PyTorch.

One idea a file: which parameters there are (`parameters`), how rows become numbers batch by batch
(`rows`), what the network is (`architecture`), how it learns (`training`), how an answer is split
into what each feature adds (`attribution`), and the estimator that joins them (`estimator`).

`Net` is imported when it is first used: PyTorch takes seconds, and a code location that only looks
at parameters does without.
"""

from typing import TYPE_CHECKING, Any

from mlops_assets.training.estimators.net.parameters import DEFAULTS

if TYPE_CHECKING:
    from mlops_assets.training.estimators.net.estimator import Net

__all__ = ["DEFAULTS", "Net"]


def __getattr__(name: str) -> Any:
    if name != "Net":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlops_assets.training.estimators.net.estimator import Net

    return Net
