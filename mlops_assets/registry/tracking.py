"""The one place that starts MLflow: quiet, without telemetry, against the deployment's store.

MLflow costs over a second to import, so it is imported here when first needed and nowhere earlier.
Everything goes through one client and its explicit URI; MLflow's process-wide settings stay
untouched.
"""

import os
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
    """Write a model in the flavor of its own library, as MLflow's UI and tools expect it.

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

    shared = {
        "path": str(folder),
        "mlflow_model": mlflow_model,
        "signature": _signature(estimator.schema),
        "input_example": example,
        "extra_files": [str(path) for path in extra_files],
    }
    pins = [f"{name}=={version(name)}" for name in ("numpy", "pandas")]
    if estimator.flavor == "catboost":
        from mlflow.catboost import save_model

        pins.append(f"catboost=={version('catboost')}")
        save_model(estimator.native, pip_requirements=pins, **shared)
    elif estimator.flavor == "sklearn":
        from mlflow.sklearn import save_model

        from mlops_assets.training.estimators.linear import TRUSTED_TYPES

        pins += [f"{name}=={version(name)}" for name in ("scikit-learn", "skops")]
        save_model(
            estimator.native,
            pip_requirements=pins,
            serialization_format="skops",
            skops_trusted_types=list(TRUSTED_TYPES),
            pyfunc_predict_fn="predict_proba",
            **shared,
        )
    else:
        raise RegistryError(
            f"{type(estimator).__name__} has flavor {estimator.flavor!r}, which cannot be logged; "
            "there are catboost and sklearn"
        )


def _signature(schema: Any) -> Any:
    """Describe features in and a probability out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    inputs: list[Any] = [
        ColSpec(
            DataType.string if name in schema.categorical else DataType.float, name, required=False
        )
        for name in schema.names
    ]
    return ModelSignature(
        inputs=Schema(inputs), outputs=Schema([ColSpec(DataType.double, "probability")])
    )
