"""Ray Serve with the model of `serving.py`: one replica; run in Ray's own environment."""

import os
import signal
import sys
import threading

import ray  # type: ignore[import-not-found]  # in the peer's environment
from ray import serve  # type: ignore[import-not-found]  # in the peer's environment
from serving_model import BareModel
from starlette.requests import Request

_FEWEST_CPUS = 2  # its proxy and its replica; more cores are taken where there are more


@serve.deployment(num_replicas=1, max_ongoing_requests=100)  # type: ignore[misc]  # unknown here
class Predictions:
    """One probability a row."""

    def __init__(self) -> None:
        self.model = BareModel.of_this_process()

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        asked = await request.json()
        return {"predictions": self.model.probabilities(asked["rows"])}


def main() -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    ray.init(
        address="local",  # never a cluster that somebody else runs on this machine
        num_cpus=max(_FEWEST_CPUS, os.cpu_count() or 1),
        include_dashboard=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Predictions.bind())
    stopped.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
