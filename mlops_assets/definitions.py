"""The code location: what ``workspace.yaml`` loads. Nothing else."""

import dagster as dg

from mlops_assets.lake import Lake
from mlops_assets.orchestration.defs_files import load_declared
from mlops_assets.orchestration.loop import outside_the_loop
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.settings import Executor, Settings, current_settings

_EXECUTORS = {
    Executor.in_process: dg.in_process_executor,
    Executor.multiprocess: dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {}}}
    ),
}


def build_defs(settings: Settings | None = None) -> dg.Definitions:
    """Merge everything that this deployment declares.

    Parameters
    ----------
    settings
        Of the deployment; by default those of the environment. Tests bring their own.
    """
    settings = settings or current_settings()
    declared = load_declared(settings.project_root, Lake.from_settings(settings))
    platform = dg.Definitions(
        resources={RESOURCE_KEY: Platform(settings)},
        executor=_EXECUTORS[settings.executor],
        jobs=[
            dg.define_asset_job(
                "everything",
                selection=outside_the_loop(declared),
                description="All assets, from the raw sources to the champion.",
            )
        ],
    )
    return dg.Definitions.merge(declared, platform)


@dg.definitions
def defs() -> dg.Definitions:
    """Give Dagster this deployment's definitions; a function, so that importing loads nothing."""
    return build_defs()
