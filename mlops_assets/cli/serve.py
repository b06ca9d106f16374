"""``mlops serve``: the model server alone."""

import os
import signal
import sys
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlops_assets.settings import Settings


_LOOK_SECONDS = 0.2

_FOLLOWER_NICE = 5
"""Where cores are short, whoever answers comes first; a quarter of a core is left to the follower,
enough to ship what is answered meanwhile."""


class Engine(StrEnum):
    """What runs the server's app."""

    processes = "processes"
    ray = "ray"


def serve(
    *,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; any but loopback needs tokens.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    engine: Annotated[
        Engine,
        typer.Option(help="Processes of this machine, or a Ray cluster (MLOPS_RAY_ADDRESS)."),
    ] = Engine.processes,
) -> None:
    """Serve the champions over HTTP; Ctrl-C stops. Defaults: the settings MLOPS_SERVE_*."""
    from mlops_assets.serving.supervisor import listen
    from mlops_assets.serving.supervisor import serve as run
    from mlops_assets.settings import current_settings, load_settings

    given = {"serve_host": host, "serve_port": port, "serve_workers": workers}
    settings = load_settings(
        home=current_settings().home,
        **{name: value for name, value in given.items() if value is not None},
    )
    if engine is Engine.ray:
        if workers is not None:
            raise typer.BadParameter(
                "--workers is for processes; MLOPS_SERVE_RAY_OPTIONS says how many replicas Ray has"
            )
        _serve_on_ray(settings)
        return
    opened, address = listen(settings)
    print(f"model server {address.url}", flush=True)
    follower = (sys.executable, "-m", "mlops_assets.cli.serve", str(os.getpid()))
    raise typer.Exit(run(settings, opened, address, follower))


def _serve_on_ray(settings: "Settings") -> None:
    """Start the server on Ray; wait for Ctrl-C where Ray would end with this process."""
    from mlops_assets.serving.on_ray.deploying import deploy, withdraw

    address = deploy(settings)
    print(f"model server {address.url}", flush=True)
    if settings.ray_address:
        print("It goes on serving; `serve shutdown` ends it.")
        return
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(_LOOK_SECONDS):  # a signal that another thread gets does not end a wait
        continue
    withdraw()


def follow(server: int) -> None:
    """Keep what is served equal to the registry. Started by `mlops serve`.

    Parameters
    ----------
    server
        The process that started this one: when it is gone, nobody else would stop this one.
    """
    from mlops_assets.serving.security.redaction import guard_logs
    from mlops_assets.serving.upkeep import keep_up
    from mlops_assets.settings import current_settings

    guard_logs()
    os.nice(_FOLLOWER_NICE)
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    keep_up(current_settings(), lambda: stopping or os.getppid() != server)


if __name__ == "__main__":
    follow(int(sys.argv[1]))
