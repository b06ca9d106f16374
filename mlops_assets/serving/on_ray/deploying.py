"""Starting the server on Ray: on a cluster that runs, or on one of this machine alone."""

import os
import socket
from collections.abc import Mapping
from typing import Any

from mlops_assets.serving.security.binding import require_safe_binding
from mlops_assets.serving.supervisor import Address, CannotListenError
from mlops_assets.settings import Settings

APPLICATION = "mlops"
"""Name of the application in Ray Serve."""

DEPLOYMENT = "model-server"
"""Name of its only deployment."""

_LEAVING_SECONDS = 10.0
_REACH_SECONDS = 5.0
_OBJECT_BYTES = 128 << 20  # requests and answers do not go through Ray's object store


class RayServingError(RuntimeError):
    """The server cannot be started on Ray; the message says why and what to do."""


def deploy(settings: Settings) -> Address:
    """Start the server, or replace one that runs, replica by replica.

    Returns when it answers. On a cluster it stays when this process ends; on a Ray of this machine,
    which is started where `ray_address` is empty, it ends with it.

    Parameters
    ----------
    settings
        Of this machine, which says where proxies listen and what Ray is told about the replicas.
        Each machine of the cluster reads its own.

    Returns
    -------
    Address
        Where every machine with a replica listens.

    Raises
    ------
    UnsafeBindingError
        When the host is not loopback and there are no tokens.
    CannotListenError
        When the port is taken, or Ray Serve listens elsewhere already.
    RayServingError
        When Ray is not installed, not to be reached, or refuses what it was told.
    """
    require_safe_binding(settings.serve_host, settings.home / "serving" / "tokens.json")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise RayServingError(
            "Ray is not installed here: `uv pip install 'mlops-assets[ray]'`, on every machine"
        ) from error

    from mlops_assets.serving.on_ray.keeper import renew_keepers
    from mlops_assets.serving.on_ray.replica import Replica

    if not ray.is_initialized():
        _connect(settings)
    address = _listen(settings)
    try:
        server = serve.deployment(serve.ingress()(Replica)).options(**_options(settings))
    except (TypeError, ValueError) as error:
        raise RayServingError(
            f"MLOPS_SERVE_RAY_OPTIONS={settings.serve_ray_options}: {error}"
        ) from error
    renew_keepers()
    try:
        serve.run(server.bind(settings.serve_host), name=APPLICATION, route_prefix="/")
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise RayServingError(
            f"Ray Serve could not start a replica: {error}. What served before goes on; the logs "
            "are in /tmp/ray/session_latest/logs/serve of its machine"
        ) from error
    return address


def withdraw() -> None:
    """Stop the server that this process has started, and the Ray of this machine with it."""
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()


def _connect(settings: Settings) -> None:
    import ray

    if not settings.ray_address:
        # What was said on the command line holds for the processes that Ray starts, too.
        os.environ |= {
            "MLOPS_HOME": str(settings.home),
            "MLOPS_SERVE_HOST": settings.serve_host,
            "RAY_worker_niceness": "0",  # else whatever else runs here goes before an answer
        }
    host, is_address, port = settings.ray_address.rpartition(":")
    alone: Mapping[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_BYTES}
    try:
        if is_address and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), _REACH_SECONDS).close()
        ray.init(
            settings.ray_address or "local",
            log_to_driver=False,
            **({} if settings.ray_address else alone),
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise RayServingError(
            f"MLOPS_RAY_ADDRESS={settings.ray_address or '(none)'}: {error}. Start a cluster with "
            "`ray start --head` and name its address, or none for a Ray of this machine alone"
        ) from error


def _listen(settings: Settings) -> Address:
    """Have the proxies listen; those that do so already must do it as they are told now."""
    from ray import serve
    from ray.serve.context import _get_global_client

    host = settings.serve_host
    limits = settings.serve_limits
    running = _get_global_client(raise_if_no_controller_running=False)
    port = settings.serve_port
    if running is None:
        port = _free_port(host, port)
        serve.start(
            proxy_location="EveryNode",
            http_options={
                "host": host,
                "port": port,
                "request_timeout_s": limits.body_seconds + limits.answer_seconds,
            },
        )
        return Address(host, port)
    has = running.http_config
    if has.host != host or port not in {0, has.port}:
        raise CannotListenError(
            f"Ray Serve listens on {has.host}:{has.port} in this cluster, not on {host}:{port}, "
            "and cannot be told otherwise while it runs. Give --host and --port as it has them, or "
            "end it with `serve shutdown`"
        )
    return Address(host, has.port)


def _free_port(host: str, port: int) -> int:
    """Return a port that can be had; the proxies take it a moment later."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotListenError(
                f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another with "
                "--port, or end what uses it"
            ) from error
        found: int = probe.getsockname()[1]
        return found


def _options(settings: Settings) -> Mapping[str, Any]:
    """Return what Ray Serve is told of the deployment: ours, and over it what the settings say."""
    limits = settings.serve_limits
    autoscaling = {"min_replicas": 1, "max_replicas": 16, "target_ongoing_requests": 16}
    given = settings.serve_ray_options
    scaling = {} if "num_replicas" in given else {"autoscaling_config": autoscaling}
    return {
        "name": DEPLOYMENT,
        "ray_actor_options": {"num_cpus": 1},
        "max_ongoing_requests": limits.in_flight,
        # Beyond that a caller is told to come back: no queue grows without bound.
        "max_queued_requests": limits.in_flight,
        "graceful_shutdown_timeout_s": limits.answer_seconds + _LEAVING_SECONDS,
        **scaling,
        **given,
    }
