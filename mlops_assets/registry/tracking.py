"""The one place that starts MLflow: quiet, without telemetry, against the deployment's store.

MLflow costs over a second to import, so it is imported here when first needed and nowhere earlier.
Everything goes through one client and its explicit URI; MLflow's process-wide settings stay
untouched.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from mlops_assets.registry.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def mlflow_client(tracking_uri: str) -> "MlflowClient":
    """Open the tracking and registry store, creating a SQLite one where there is none.

    Parameters
    ----------
    tracking_uri
        Any store MLflow knows.

    Raises
    ------
    RegistryError
        When the store cannot be opened.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import logging

    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        if tracking_uri.startswith("sqlite:///"):
            Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        client.search_registered_models(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise RegistryError(
            f"MLflow store {tracking_uri} cannot be opened: {error}. Check MLOPS_TRACKING_URI"
        ) from error
    return client


def local_folder(location: str, scratch: Path) -> Path:
    """Give a folder with the artifacts at a location, in place where they are local.

    Parameters
    ----------
    location
        Artifact URI: a `file:` one is used in place, any other is downloaded.
    scratch
        Where a download goes.
    """
    parsed = urlparse(location)
    if parsed.scheme in {"", "file"}:
        return Path(unquote(parsed.path))
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(artifact_uri=location, dst_path=str(scratch)))


def save_native(
    estimator: Any, folder: Path, mlflow_model: Any, example: Any, extra_files: list[Path]
) -> None:
    """Write a model in its estimator's flavor, as MLflow's UI and tools expect it.

    Nothing is pickled: a library with a format of its own is written by MLflow's flavor for it, any
    other estimator by itself, under the flavor `mlops_assets`.

    Parameters
    ----------
    estimator
        A fitted estimator.
    folder
        Not there yet.
    mlflow_model
        The `mlflow.models.Model` to describe it in.
    example
        Frame of input rows.
    extra_files
        Travel with the model.

    Raises
    ------
    RegistryError
        When the estimator's flavor is not one that can be logged.
    """
    from importlib.metadata import version

    write = _FLAVORS.get(estimator.flavor)
    if write is None:
        raise RegistryError(
            f"{type(estimator).__name__} has flavor {estimator.flavor!r}, which cannot be logged; "
            f"there are {', '.join(_FLAVORS)}"
        )
    packages = dict.fromkeys(["numpy", "pandas", *_packages(estimator)])
    shared = {
        "path": str(folder),
        "mlflow_model": mlflow_model,
        "signature": _signature(estimator),
        "input_example": example,
        "pip_requirements": [f"{name}=={version(name)}" for name in packages],
    }
    write(estimator, folder, shared, extra_files)


def _save_catboost(
    estimator: Any, folder: Path, shared: dict[str, Any], extra_files: list[Path]
) -> None:
    from mlflow.catboost import save_model

    del folder
    save_model(estimator.native, extra_files=[str(path) for path in extra_files], **shared)


def _save_sklearn(
    estimator: Any, folder: Path, shared: dict[str, Any], extra_files: list[Path]
) -> None:
    from mlflow.sklearn import save_model
    from skops import io

    del folder
    classes = hasattr(estimator.native, "predict_proba")
    save_model(
        estimator.native,
        serialization_format="skops",
        # The estimator refused to save a type that is not to be trusted, so these all are.
        skops_trusted_types=io.get_untrusted_types(data=io.dumps(estimator.native)),
        pyfunc_predict_fn="predict_proba" if classes else "predict",
        extra_files=[str(path) for path in extra_files],
        **shared,
    )


def _save_own_files(
    estimator: Any, folder: Path, shared: dict[str, Any], extra_files: list[Path]
) -> None:
    from shutil import copy2

    from mlflow.pyfunc import save_model

    from mlops_assets.registry import pyfunc

    kind = type(estimator)
    shared["mlflow_model"].add_flavor(
        estimator.flavor, estimator=f"{kind.__module__}:{kind.__qualname__}"
    )
    save_model(loader_module=pyfunc.__name__, **shared)
    estimator.save(folder)
    (folder / "extra_files").mkdir()
    for path in extra_files:
        if not (folder / path.name).exists():
            copy2(path, folder / "extra_files" / path.name)


_FLAVORS: Mapping[str, Callable[[Any, Path, dict[str, Any], list[Path]], None]] = {
    "catboost": _save_catboost,
    "sklearn": _save_sklearn,
    "mlops_assets": _save_own_files,
}

_PACKAGES = {"catboost": ("catboost",), "sklearn": ("scikit-learn", "skops")}


def _packages(estimator: Any) -> list[str]:
    """Return the packages without which a model cannot be loaded, those of its members too."""
    own = _PACKAGES.get(estimator.flavor)
    found = list(("mlops-assets", *estimator.requirements) if own is None else own)
    for member in getattr(estimator, "members", {}).values():
        found += _packages(member)
    return found


def _signature(estimator: Any) -> Any:
    """Describe features in and answers out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    schema = estimator.schema
    inputs: list[Any] = [
        ColSpec(
            DataType.string if name in schema.categorical else DataType.float, name, required=False
        )
        for name in schema.names
    ]
    outputs: list[Any] = [ColSpec(DataType.double, name) for name in estimator.task.outputs]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))
