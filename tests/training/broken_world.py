"""An estimator that something outside stands in the way of, for a worker process."""

import os
from collections.abc import Mapping
from typing import Any, Self

from tuning_world import Slope

from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import EstimatorError, FitOptions


class Broken(Slope):
    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        if "BROKEN_MENDED" not in os.environ:
            raise EstimatorError("it stands in the way")
        return super().fit(train, validation, {**parameters, "misbehave": "no"}, options)
