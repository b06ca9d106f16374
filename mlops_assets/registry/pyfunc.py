"""What MLflow calls to open a model that was logged under the flavor `mlops_assets`.

Only for MLflow's own tools, such as its UI's snippets and `mlflow models serve`; the platform loads
estimators natively, by `mlops_assets.registry.Registry.load`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.training.estimators import Estimator, load_estimator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PyfuncModel:
    """An estimator behind MLflow's interface.

    Attributes
    ----------
    estimator
        Answers.
    """

    estimator: Estimator

    def predict(
        self, model_input: "pd.DataFrame", params: dict[str, Any] | None = None
    ) -> "pd.DataFrame":
        """Return the answers to rows of features, one column an output."""
        import pandas as pd
        import pyarrow as pa

        from mlops_assets.training.dataset import feature_frame

        del params
        estimator = self.estimator
        table = pa.Table.from_pandas(model_input, preserve_index=False)
        answers = estimator.predict(feature_frame(table, estimator.schema))
        outputs = list(estimator.task.outputs)
        return pd.DataFrame(estimator.task.table(answers), columns=outputs)


def _load_pyfunc(path: str) -> PyfuncModel:
    return PyfuncModel(load_estimator(Path(path)))
