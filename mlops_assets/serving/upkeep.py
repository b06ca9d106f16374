"""What a machine that serves does besides answering: it follows the registry and ships its log."""

from collections.abc import Callable

from mlops_assets.features.registry import FeatureRegistry
from mlops_assets.lake import Lake
from mlops_assets.registry import Registry
from mlops_assets.serving.declared import DeclaredServing
from mlops_assets.serving.following import CanaryWatch, Follower
from mlops_assets.serving.inference_log import InferenceLog
from mlops_assets.serving.inference_log.shipping import ship
from mlops_assets.serving.reporting import reporter
from mlops_assets.serving.routing import CanaryMonitor
from mlops_assets.settings import Settings
from mlops_assets.transform.project import DbtProject

EVERY_SECONDS = 1.0
"""Pause between two looks at the registry."""


def keep_up(
    settings: Settings,
    stopped: Callable[[], bool],
    *,
    canaries: CanaryWatch | None = None,
    looked: Callable[[], None] = lambda: None,
) -> None:
    """Do it until told to stop; one process of a machine does.

    Parameters
    ----------
    settings
        Of the deployment.
    stopped
        Whether to stop.
    canaries
        Stops challengers that answer worse. Default: by what was counted on this machine.
    looked
        Called each time that registry and canaries have been looked at.

    Raises
    ------
    RegistryError
        When the registry cannot be opened.
    InferenceLogError
        When the inference log cannot be written.
    """
    lake = Lake.from_settings(settings)
    folder = settings.home / "serving"
    project = DbtProject(settings.dbt_project_dir)

    def ship_what_waits() -> None:
        looked()
        ship(lake, settings.serve_log_folder)

    with InferenceLog(settings.serve_log_folder) as log:
        report = reporter(log)
        follower = Follower(
            registry=Registry.from_settings(settings, lake),
            lake=lake,
            folder=folder,
            declared=DeclaredServing(settings.project_root / "mlops_assets" / "defs"),
            canaries=canaries or CanaryMonitor(folder, report),
            report=report,
            views=lambda: FeatureRegistry.from_manifest(project.ensure_manifest()),
        )
        follower.follow(EVERY_SECONDS, stopped, ship_what_waits)
