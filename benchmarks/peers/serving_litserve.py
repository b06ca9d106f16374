"""LitServe with the model of `serving.py`; run in LitServe's own environment."""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]  # in the peer's environment
from serving_model import BareModel


class Predictions(litserve.LitAPI):  # type: ignore[misc]  # its base is unknown here
    """One probability a row."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.model = BareModel.of_this_process()

    def decode_request(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = request["rows"]
        return rows

    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        return self.model.probabilities(rows)

    def encode_response(self, answers: list[float]) -> dict[str, list[float]]:
        return {"predictions": answers}


if __name__ == "__main__":
    server = litserve.LitServer(Predictions(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
