"""The deep tabular net: TabM on piecewise-linear embeddings of numbers, in PyTorch.

One idea a file: which parameters there are (`parameters`), how rows become numbers batch by batch
(`rows`), what the network is (`architecture`), how it learns (`training`), how an answer is split
into what each feature adds (`attribution`), and the estimator that joins them (`estimator`).
"""

from mlops_assets.training.estimators.net.estimator import Net
from mlops_assets.training.estimators.net.parameters import DEFAULTS

__all__ = ["DEFAULTS", "Net"]
