"""`mlops serve --engine ray` on one machine, and what it refuses."""

from pathlib import Path

import httpx
import pytest

from mlops_assets.serving.on_ray.deploying import RayServingError, deploy
from mlops_assets.serving.security.errors import UnsafeBindingError
from mlops_assets.settings import load_settings
from tests.demo import MLOPS, environment_of
from tests.servers import free_port, serving, wait_until
from tests.serving.conftest import deployment_in
from tests.serving.world import World


def test_a_ray_of_this_machine_alone_answers_and_ends_with_the_command(
    world: World, tmp_path: Path, short_folder: Path
) -> None:
    deployment_in(tmp_path / "home", world)
    environment = environment_of(tmp_path / "home") | {
        "MLOPS_LAKE_URI": str(tmp_path / "lake"),
        "MLOPS_TRACKING_URI": world.settings.tracking_uri,
        "RAY_TMPDIR": str(short_folder),
    }
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [*MLOPS, "serve", "--engine", "ray", "--port", str(port)]
    log = tmp_path / "log"
    with (
        serving(command, environment, ready=f"{url}/ready", log=log),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        # The proxy answers before there is a replica, so that any answer is not enough.
        wait_until(lambda: f"model server {url}" in log.read_text(), "it says that it serves")
        assert client.get("/ready").json()["models"]["late_flights"] == "late_flights/1"
        rows = world.features("late_flights", 2).to_pylist()
        answer = client.post("/models/late_flights/predict", json={"rows": rows})
        assert answer.status_code == httpx.codes.OK, answer.text
        expected = world.answers("late_flights/1", world.rows("late_flights", 2))
        assert [each["probability"] for each in answer.json()["predictions"]] == list(expected)
        wrong = client.post("/models/late_flights/predict", json={"rows": [{"wind": "x"}]})
        assert wrong.status_code == httpx.codes.UNPROCESSABLE_ENTITY
        assert 'mlops_serving{family="late_flights"' in client.get("/metrics").text


def test_other_machines_are_not_served_without_tokens(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, serve_host="0.0.0.0")  # noqa: S104 - refused
    with pytest.raises(UnsafeBindingError, match="holds no token"):
        deploy(settings)


def test_an_address_without_a_cluster_is_named(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = load_settings(home=tmp_path, ray_address=address)
    with pytest.raises(RayServingError, match=address):
        deploy(settings)
