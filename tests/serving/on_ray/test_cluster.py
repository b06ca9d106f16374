"""Two machines that serve, one of which dies: nothing that was answered is lost."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import ray
from ray import serve

from mlops_assets.lake import TableName
from mlops_assets.registry import ModelReference, promotion
from mlops_assets.serving.decoding import JSON
from mlops_assets.serving.deployment import read_deployment
from mlops_assets.serving.inference_log.records import Prediction
from mlops_assets.serving.inference_log.segments import SEGMENTS, read_segment
from mlops_assets.serving.on_ray.deploying import APPLICATION, DEPLOYMENT, deploy
from mlops_assets.serving.routing import TrafficStore
from mlops_assets.serving.routing.traffic import FILE as TRAFFIC
from tests.servers import wait_until
from tests.serving.on_ray.conftest import Machines
from tests.serving.world import World

FAMILY = "late_flights"
TABLE = TableName("inference", FAMILY)
CALLERS = 3


class Load:
    """Callers that ask again and again, and remember what they were answered."""

    def __init__(self, url: str, body: bytes) -> None:
        self._url, self._body = url, body
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CALLERS)]
        self.answered: list[str] = []
        self.models: list[str] = []
        self.refused: Counter[str] = Counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.02):
            # A new connection each time: another machine may take it.
            try:
                answer = httpx.post(
                    f"{self._url}/models/{FAMILY}/predict",
                    content=self._body,
                    headers={"content-type": JSON},
                    timeout=20,
                )
            except httpx.TransportError as error:
                self.refused[type(error).__name__] += 1
                continue
            if answer.status_code == httpx.codes.OK:
                [prediction] = answer.json()["predictions"]
                self.models.append(answer.json()["model"])
                self.answered.append(prediction["id"])
            else:
                self.refused[str(answer.status_code)] += 1


def replicas() -> set[str]:
    return {
        found["name"]
        for found in ray.util.list_named_actors(all_namespaces=True)
        if found["name"].startswith("SERVE_REPLICA::")
    }


def running() -> int:
    status = serve.status().applications[APPLICATION].deployments[DEPLOYMENT]
    return status.replica_states.get("RUNNING", 0)


def answering(home: Path) -> set[str]:
    """Name the replicas whose predictions a machine holds and has not shipped."""
    found = set()
    for path in (home / "inference" / SEGMENTS).glob("*"):
        with suppress(FileNotFoundError):  # it has just been shipped
            if any(isinstance(each, Prediction) for each in read_segment(path.read_bytes())):
                found.add(path.name.rpartition("-")[0])
    return found


def logged(machines: Machines) -> Counter[str]:
    lake = machines.registry.lake
    if not lake.exists(TABLE):
        return Counter()
    with lake.connect(tables=[TABLE]) as con:
        rows = con.sql(f"SELECT prediction_id FROM {TABLE.sql}").fetchall()
    return Counter(prediction for (prediction,) in rows)


def _all_answer(machines: Machines) -> bool:
    return all(map(answering, machines.homes))


def _answering(machines: Machines) -> set[str]:
    return set().union(*map(answering, machines.homes))


def _more(load: Load, what: str) -> None:
    """Wait until callers have got further answers."""
    so_far = len(load.answered)
    wait_until(lambda: len(load.answered) > so_far + 20, what)


def body(world: World) -> bytes:
    return json.dumps({"rows": world.features(FAMILY, 1).to_pylist()}).encode()


def test_a_dead_replica_and_a_dead_machine_lose_no_prediction(
    machines: Machines, world: World
) -> None:
    address = deploy(machines.settings)
    load = Load(address.url, body(world))
    with load.running():
        wait_until(lambda: running() == 2, "load has brought a second replica")
        wait_until(lambda: _all_answer(machines), "both machines answer")

        first = _answering(machines)
        ray.kill(ray.get_actor(min(replicas()), "serve"), no_restart=True)
        _more(load, "the other replica goes on")
        wait_until(
            lambda: _all_answer(machines) and bool(_answering(machines) - first),
            "another replica has taken its place",
        )

        machines.kill_other()
        left = answering(machines.homes[1])
        _more(load, "the other machine goes on")
    assert left, "the dead machine took nothing with it, so this shows nothing"
    lost = set(load.answered) - set(logged(machines))
    assert lost

    machines.start_other()
    wait_until(lambda: not set(load.answered) - set(logged(machines)), "all is in the lake")
    assert max(logged(machines).values()) == 1


def test_a_new_deployment_and_a_new_champion_fail_no_request(
    machines: Machines, world: World
) -> None:
    wait_until(lambda: running() == 2, "both machines serve")
    old, settings = replicas(), machines.settings
    load = Load(f"http://{settings.serve_host}:{settings.serve_port}", body(world))
    with load.running():
        deploy(settings)
        wait_until(lambda: running() == 2 and not old & replicas(), "all replicas are new")
        _more(load, "they answer")

        TrafficStore(machines.homes[0] / "serving" / TRAFFIC).switch_shadow(
            FAMILY, on=False, by="a test"
        )
        promotion.promote_by_hand(
            machines.registry, ModelReference(FAMILY, 2), actor="a test", reason="a test"
        )
        wait_until(lambda: _agree(machines, "late_flights/2"), "both machines follow")
        wait_until(lambda: set(load.models[-20:]) == {"late_flights/2"}, "both replicas follow")
    assert not load.refused
    assert set(load.models) == {"late_flights/1", "late_flights/2"}


def _agree(machines: Machines, champion: str) -> bool:
    """Whether every machine has this champion, and the switches of the head."""
    folders = [home / "serving" for home in machines.homes]
    deployed = {read_deployment(folder).families[FAMILY].champion.folder for folder in folders}
    switched = [folder / TRAFFIC for folder in folders]
    return (
        deployed == {f"models/{champion}"}
        and all(path.exists() for path in switched)
        and len({path.read_text() for path in switched}) == 1
    )
