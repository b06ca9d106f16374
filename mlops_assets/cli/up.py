"""``mlops up``: the servers together, in the foreground; Ctrl-C stops all of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Annotated

import typer

_STOP_SECONDS = 15


@dataclass(frozen=True)
class Server:
    """A server that `mlops up` starts.

    Attributes
    ----------
    url
        Where a browser finds it; ``None`` for one without pages.
    """

    name: str
    command: Sequence[str]
    url: str | None = None


def up(
    *,
    dagster_port: Annotated[int, typer.Option(help="Port of Dagster's UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
    serve_port: Annotated[
        int | None, typer.Option(help="Port of the model server. Default: MLOPS_SERVE_PORT.")
    ] = None,
) -> None:
    """Start Dagster (UI and daemon), MLflow and the model server; Ctrl-C stops all."""
    from mlops_assets.cli.output import console
    from mlops_assets.orchestration.instance import dagster_environment
    from mlops_assets.settings import current_settings
    from mlops_assets.transform.project import DbtProject

    settings = current_settings()
    DbtProject(settings.dbt_project_dir).ensure_manifest()
    (settings.home / "mlflow").mkdir(parents=True, exist_ok=True)
    local = "127.0.0.1"
    model_port = settings.serve_port if serve_port is None else serve_port
    workspace = str(settings.project_root / "workspace.yaml")
    servers = [
        Server(
            "dagster",
            (
                *(sys.executable, "-m", "dagster", "dev", "--workspace", workspace),
                *("--host", local, "--port", str(dagster_port)),
            ),
            f"http://{local}:{dagster_port}",
        ),
        Server(
            "mlflow",
            (
                *(sys.executable, "-m", "mlflow", "server"),
                *("--backend-store-uri", settings.tracking_uri),
                *("--artifacts-destination", settings.artifact_uri),
                *("--host", local, "--port", str(mlflow_port), "--workers", "1"),
            ),
            f"http://{local}:{mlflow_port}",
        ),
        Server(
            "models",
            (
                *(sys.executable, "-m", "mlops_assets.cli.main", "serve"),
                *("--host", local, "--port", str(model_port)),
            ),
            f"http://{local}:{model_port}",
        ),
    ]
    for server in servers:
        console.print(f"{server.name:<10} {server.url}")
    console.print("Ctrl-C stops all.")
    raise typer.Exit(run_together(servers, dagster_environment(settings)))


def run_together(servers: Sequence[Server], environment: Mapping[str, str]) -> int:
    """Run servers until one ends or this process is told to stop, then stop all of them.

    Returns
    -------
    int
        0 after Ctrl-C or a termination signal, 1 if a server ended by itself.
    """
    # Listened for before there is anything to stop. A shell that runs this in the background has it
    # ignore Ctrl-C, and the servers would inherit that; a process with a handler hands down none.
    stopped = _StopSignal()
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        # A group of its own for each server: Ctrl-C then reaches this process alone, which stops
        # them in order together with whatever they started.
        for server in servers:
            running[server.name] = subprocess.Popen(  # noqa: S603 - the commands stand above
                server.command, env=dict(environment), start_new_session=True
            )
        while not stopped.seen:
            ended = [name for name, process in running.items() if process.poll() is not None]
            if ended:
                print(f"mlops: {', '.join(ended)} ended; stopping the others", file=sys.stderr)
                return 1
            time.sleep(0.2)
        return 0
    finally:
        for process in running.values():
            process.send_signal(signal.SIGINT)
        for process in running.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class _StopSignal:
    """Remembers that this process was asked to stop."""

    def __init__(self) -> None:
        self.seen = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._notice)

    def _notice(self, _number: int, _frame: FrameType | None) -> None:
        self.seen = True
