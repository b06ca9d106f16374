"""The home that a replay lives in: what the real one had before the first day, and nothing more.

The tables of the lake are linked, not copied, where the file system can: Delta never changes a file
that it has written. MLflow's store does, so that one is copied. The real home is only read.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mlops_assets.production.platform import Platform
from mlops_assets.production.replay.errors import ReplayError
from mlops_assets.settings import Settings

_SQLITE = "sqlite:///"
_FILE = "file://"
# What the real home wrote about its own time; a replay writes all of it anew.
_LEFT = ("predictions", "monitoring", "alerts", "inference")


def make_home(real: Platform, folder: Path) -> Platform:
    """Make the home of a replay.

    Parameters
    ----------
    real
        The deployment whose history it is.
    folder
        Where to; it must not exist, or be empty.

    Raises
    ------
    ReplayError
        When the folder holds something, or the lake or MLflow's store is not on this machine.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ReplayError(
            f"{folder} is not empty; a replay writes a home of its own. Name another folder, or "
            "remove this one"
        )
    lake, store, artifacts = _local(real.settings)
    own = Platform(_settings(real.settings, folder.resolve()))
    for schema in sorted(lake.iterdir()):
        if schema.is_dir() and schema.name not in _LEFT:
            _link(schema, Path(own.settings.lake_uri) / schema.name)
    _copy_models(store, artifacts, own.settings)
    studies = Path(real.settings.studies_uri)
    if studies.is_dir():
        shutil.copytree(studies, own.settings.studies_uri)
    return own


def _settings(real: Settings, home: Path) -> Settings:
    """Return the settings with all state in another folder."""
    return real.model_copy(
        update={
            "home": home,
            "lake_uri": str(home / "lake"),
            "tracking_uri": f"{_SQLITE}{home / 'mlflow' / 'mlflow.db'}",
            "artifact_uri": (home / "mlflow" / "artifacts").as_uri(),
            "studies_uri": str(home / "studies"),
            "online_store_url": str(home / "online" / "store.db"),
            "dagster_home": home / "dagster",
            "serve_log_folder": home / "inference",
        }
    )


def _local(settings: Settings) -> tuple[Path, Path, Path]:
    """Return the folders of lake and artifacts and the file of MLflow's store."""
    places = {
        "MLOPS_LAKE_URI": settings.lake_uri.removeprefix(_FILE),
        "MLOPS_TRACKING_URI": settings.tracking_uri.removeprefix(_SQLITE),
        "MLOPS_ARTIFACT_URI": settings.artifact_uri.removeprefix(_FILE),
        "MLOPS_STUDIES_URI": settings.studies_uri.removeprefix(_FILE),
    }
    for name, place in places.items():
        if "://" in place:
            raise ReplayError(
                f"{name} is {place.partition('://')[0]}://…, and a replay links or copies what is "
                "in a folder of this machine. Copy that to one, and name it there"
            )
    lake, store, artifacts, _ = (Path(place) for place in places.values())
    if not store.exists():
        raise ReplayError(f"{store} does not exist: no model was ever trained; `mlops demo` does")
    return lake, store, artifacts


def _copy_models(store: Path, artifacts: Path, own: Settings) -> None:
    from mlops_assets.registry.moving import copy_artifacts, copy_store

    copy_artifacts(artifacts, Path(own.artifact_uri.removeprefix(_FILE)))
    copy_store(
        store,
        Path(own.tracking_uri.removeprefix(_SQLITE)),
        (artifacts.resolve().as_uri(), own.artifact_uri),
    )


def _link(source: Path, target: Path) -> None:
    """Make a folder with the same files; where they cannot be linked, with copies."""
    for found in _files(source):
        place = target / found.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another file system, or one without links
            os.link(found, place)
            continue
        shutil.copy2(found, place)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
