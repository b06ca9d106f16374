"""MLServer with the model of `serving.py`, by the V2 protocol: one input a feature.

Run in MLServer's own environment by `mlserver start`, without its pool of worker processes, which
takes a row through a queue to another process and back.
"""

from mlserver import MLModel  # type: ignore[import-not-found]  # in the peer's environment
from mlserver.types import (  # type: ignore[import-not-found]  # in the peer's environment
    InferenceRequest,
    InferenceResponse,
    ResponseOutput,
)
from serving_model import BareModel


class Predictions(MLModel):  # type: ignore[misc]  # its base is unknown here
    """One probability a row."""

    async def load(self) -> bool:
        self.model = BareModel.of_this_process()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self.model.of_columns({each.name: each.data.root for each in payload.inputs})
        output = ResponseOutput(
            name="predictions", shape=[len(answers)], datatype="FP64", data=answers
        )
        return InferenceResponse(model_name=self.name, outputs=[output])
