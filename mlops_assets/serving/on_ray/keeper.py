"""One process on each machine of a cluster: it follows the registry and ships the machine's log.

A machine gets its keeper from the first replica there, and from any other keeper that sees the
machine for the first time: one that comes back with predictions on its disk need not serve again to
have them shipped. Ray starts a keeper again when it dies. One that no replica has needed for a
while leaves when nothing waits any more, so that a machine can be given back.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mlops_assets.lake import Lake
from mlops_assets.serving.inference_log import waiting_segments
from mlops_assets.serving.inference_log.shipping import ship
from mlops_assets.serving.on_ray.switches import SwitchesOfHead, switches, take_counts
from mlops_assets.serving.security.redaction import guard_logs
from mlops_assets.serving.security.state_file import StateFileError
from mlops_assets.serving.upkeep import keep_up
from mlops_assets.settings import current_settings

NAMESPACE = "mlops"
"""Of the keepers: Ray finds an actor by its name within a namespace."""

_NAME = "keeper-"
_HEAD = "node:__internal_head__"
_ASK_SECONDS = 10
_LEAVES_AFTER_SECONDS = 60.0
_SEARCH_SECONDS = 5.0
_LOG = logging.getLogger(__name__)


class Keeper:
    """Keeps one machine up to date; runs as a Ray actor of several threads."""

    def __init__(self) -> None:
        self._settings = current_settings()
        self._folder = self._settings.home / "serving"
        self._node = ray.get_runtime_context().get_node_id()
        self._needed_at = self._searched_at = time.monotonic()
        self._known: set[str] = {self._node}
        self._looked = threading.Event()
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def needed(self) -> None:
        """Stay: somebody serves here."""
        self._needed_at = time.monotonic()

    def ready(self, seconds: float) -> bool:
        """Wait until the registry has been looked at; return whether it has been."""
        self.needed()
        return self._looked.wait(seconds)

    def exchange(self, counts: Mapping[str, bytes]) -> Mapping[str, str]:
        """Take what another machine has counted of canaries; return the switches that hold.

        Raises
        ------
        StateFileError
            When a file of switches cannot be read.
        """
        self.needed()
        take_counts(self._folder, counts)
        return switches(self._folder)

    def _keep(self) -> None:
        try:
            guard_logs()
            head = _head()
            canaries = None
            if head != self._node:
                canaries = SwitchesOfHead(self._folder, lambda counts: _ask(head, counts))
            keep_up(self._settings, self._may_leave, canaries=canaries, looked=self._has_looked)
            # What it reported itself was not finished before.
            ship(Lake.from_settings(self._settings), self._settings.serve_log_folder)
        except BaseException:  # noqa: BLE001 - whatever it is, it ends this process, and is told
            _LOG.critical("the keeper has failed; Ray starts another", exc_info=True)
            os._exit(1)  # an actor whose thread has died would look alive
        ray.kill(keeper_of(self._node), no_restart=True)

    def _may_leave(self) -> bool:
        if time.monotonic() - self._needed_at < _LEAVES_AFTER_SECONDS:
            return False
        return not waiting_segments(self._settings.serve_log_folder).segments

    def _has_looked(self) -> None:
        self._looked.set()
        if time.monotonic() - self._searched_at < _SEARCH_SECONDS:
            return
        self._searched_at = time.monotonic()
        nodes = _alive()
        for node in nodes - self._known:
            keeper_of(node)
        self._known = nodes


def keeper_of(node: str) -> Any:
    """Return the keeper of a machine, which is started if there is none.

    Parameters
    ----------
    node
        Ray's name of the machine.
    """
    options = {
        "name": f"{_NAME}{node}",
        "namespace": NAMESPACE,
        "get_if_exists": True,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": -1,
        "max_concurrency": 16,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
    return ray.remote(Keeper).options(**options).remote()


def renew_keepers() -> None:
    """End all keepers, so that new ones run the code that is installed now.

    What one was doing is done by the next: shipping may be cut off at any moment.
    """
    for found in ray.util.list_named_actors(all_namespaces=True):
        if found["namespace"] == NAMESPACE and found["name"].startswith(_NAME):
            try:
                ray.kill(ray.get_actor(found["name"], NAMESPACE), no_restart=True)
            except ValueError:
                continue  # it has just left
    for node in _alive():
        keeper_of(node)


def _ask(head: str, counts: Mapping[str, bytes]) -> Mapping[str, str]:
    try:
        answer: Mapping[str, str] = ray.get(
            keeper_of(head).exchange.remote(counts), timeout=_ASK_SECONDS
        )
    except (RayError, GetTimeoutError) as error:
        raise StateFileError(
            f"the head cannot be asked for tokens and traffic ({error}); what it said last holds"
        ) from error
    return answer


def _alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _head() -> str:
    [head] = [
        node["NodeID"] for node in ray.nodes() if node["Alive"] and _HEAD in node["Resources"]
    ]
    return str(head)
