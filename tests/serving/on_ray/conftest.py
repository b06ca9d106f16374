"""A Ray cluster of two machines: each has its own folder, as if on its own disk."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster

from mlops_assets.lake import Lake
from mlops_assets.registry import Registry
from mlops_assets.settings import Settings, load_settings
from tests.servers import free_port
from tests.serving.world import World

OPTIONS = {
    "autoscaling_config": {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 0.5,
        "upscale_delay_s": 1,
    },
    "health_check_period_s": 2,
}


@dataclass
class Machines:
    """The head and one more machine, of one core each.

    Attributes
    ----------
    cluster
        Runs them.
    root
        Holds a folder for each, and the lake and the registry that they have in common.
    settings
        Of the head.
    """

    cluster: Cluster
    root: Path
    settings: Settings
    _others: list[Any] = field(default_factory=list)

    @cached_property
    def registry(self) -> Registry:
        """What all machines follow, over the lake that they have in common."""
        return Registry.from_settings(self.settings, Lake.from_settings(self.settings))

    @property
    def homes(self) -> list[Path]:
        return [self.root / "head", self.root / "other"]

    def start_other(self) -> None:
        """Start the second machine, with what is on its disk."""
        self._others.append(_start(self.cluster, self.root, "other"))

    def kill_other(self) -> None:
        """End all processes of the second machine at once; its disk stays."""
        self.cluster.remove_node(self._others.pop(), allow_graceful=False)


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """Hold Ray's sockets, whose names must be short, and its logs."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def machines(
    world: World, tmp_path_factory: pytest.TempPathFactory, short_folder: Path
) -> Iterator[Machines]:
    root = tmp_path_factory.mktemp("cluster")
    shutil.copytree(world.home / "lake", root / "lake")
    shutil.copytree(world.home / "mlflow", root / "mlflow")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster()
    try:
        _start(cluster, root, "head", include_dashboard=False, temp_dir=str(short_folder))
        settings = load_settings(
            home=root / "head",
            lake_uri=str(root / "lake"),
            tracking_uri=_tracking(root),
            serve_port=free_port(),
            serve_ray_options=OPTIONS,
            ray_address=cluster.address,
        )
        found = Machines(cluster, root, settings)
        found.start_other()
        yield found
    finally:
        if ray.is_initialized():
            serve.shutdown()
            ray.shutdown()
        cluster.shutdown()


def _start(cluster: Cluster, root: Path, name: str, **options: Any) -> Any:
    return cluster.add_node(
        num_cpus=1,
        object_store_memory=80 << 20,
        env_vars=_environment(root, root / name),
        **options,
    )


def _environment(root: Path, home: Path) -> Mapping[str, str]:
    """Return what a machine is told by its environment."""
    return {
        "MLOPS_HOME": str(home),
        "MLOPS_LAKE_URI": str(root / "lake"),
        "MLOPS_TRACKING_URI": _tracking(root),
        "MLOPS_THREADS": "1",
        "RAY_worker_niceness": "0",
        "MLOPS_SERVE_LOG_SEGMENT_SECONDS": "2",
    }


def _tracking(root: Path) -> str:
    return f"sqlite:///{root}/mlflow/mlflow.db"
