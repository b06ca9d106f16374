"""The Dagster instance of this deployment: where runs, events and check results are kept."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from mlops_assets.settings import Settings

_DAGSTER_YAML = """\
# Written by mlops-assets when it is absent; yours to change.
telemetry:
  enabled: false
nux: # no window that asks each new visitor for an e-mail address
  enabled: false
python_logs: # what a command prints; every event of a run is kept all the same
  python_log_level: INFO
freshness:
  enabled: true # the daemon evaluates every asset's freshness policy
storage:
  custom: # SQLite as Dagster's own, with batches of events written as batches
    module: mlops_assets.orchestration.sqlite_storage
    class: BatchedSqliteStorage
    config:
      base_dir:
        env: DAGSTER_HOME
"""


@contextmanager
def quiet_about_beta() -> Iterator[None]:
    """Keep Dagster from warning of its own use of its beta parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def prepare_dagster_home(settings: Settings) -> Path:
    """Make Dagster's home folder, with a ``dagster.yaml`` if there is none, and return it."""
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_DAGSTER_YAML)
    return home


def dagster_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a Dagster process of this deployment.

    A backfill of a year reports a materialisation for each day and table. Stored one by one they
    take longer than the work, so Dagster is told to store them in batches.
    """
    return {
        **os.environ,
        "DAGSTER_HOME": str(prepare_dagster_home(settings)),
        "DAGSTER_EVENT_BATCH_SIZE": os.environ.get("DAGSTER_EVENT_BATCH_SIZE", "1000"),
        "MLOPS_HOME": str(settings.home),
    }


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the instance of this deployment, in this process."""
    os.environ.update(dagster_environment(settings))
    with dg.DagsterInstance.get() as instance:
        yield instance
