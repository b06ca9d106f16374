"""``mlops serve``: the model server alone."""

import signal
import sys
from functools import partial
from typing import Annotated

import typer

FOLLOW_SECONDS = 1.0


def serve(
    *,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; any but loopback needs tokens.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
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
    opened, address = listen(settings)
    print(f"model server {address.url}", flush=True)
    follower = (sys.executable, "-m", "mlops_assets.cli.serve")
    raise typer.Exit(run(settings, opened, address, follower))


def follow() -> None:
    """Keep what is served equal to the registry, until told to stop. Started by `mlops serve`."""
    from mlops_assets.features.registry import FeatureRegistry
    from mlops_assets.lake import Lake
    from mlops_assets.registry import Registry
    from mlops_assets.serving.declared import declared_serving
    from mlops_assets.serving.following import Follower
    from mlops_assets.serving.inference_log import InferenceLog
    from mlops_assets.serving.inference_log.shipping import ship
    from mlops_assets.serving.reporting import reporter
    from mlops_assets.serving.routing import CanaryMonitor
    from mlops_assets.serving.security.redaction import guard_logs
    from mlops_assets.settings import current_settings
    from mlops_assets.transform.project import DbtProject

    guard_logs()
    settings = current_settings()
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    lake = Lake.from_settings(settings)
    project = DbtProject(settings.dbt_project_dir)
    with InferenceLog(settings.serve_log_folder) as log:
        folder = settings.home / "serving"
        follower = Follower(
            registry=Registry.from_settings(settings, lake),
            lake=lake,
            folder=folder,
            declared=partial(declared_serving, settings.project_root / "mlops_assets" / "defs"),
            canaries=CanaryMonitor(folder, reporter(log)),
            report=reporter(log),
            views=lambda: FeatureRegistry.from_manifest(project.ensure_manifest()),
        )
        follower.follow(
            FOLLOW_SECONDS, lambda: stopping, partial(ship, lake, settings.serve_log_folder)
        )


if __name__ == "__main__":
    follow()
