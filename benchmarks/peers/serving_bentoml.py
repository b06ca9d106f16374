"""BentoML with the model of `serving.py`; run in BentoML's own environment by `bentoml serve`."""

from typing import Any

import bentoml  # type: ignore[import-not-found]  # in the peer's environment
from serving_model import BareModel


@bentoml.service(workers=1)
class Predictions:
    """One probability a row. Asynchronous, which saves BentoML a thread for each request."""

    def __init__(self) -> None:
        self.model = BareModel.of_this_process()

    @bentoml.api
    async def predict(self, rows: list[dict[str, Any]]) -> dict[str, list[float]]:
        return {"predictions": self.model.probabilities(rows)}
