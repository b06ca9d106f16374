"""What the server should serve: a file that one process writes and every worker watches.

Workers never ask the registry. The follower does, copies what it finds next to this file, and then
replaces the file in one step, so that a worker reads the old state or the new one.
"""

from pathlib import Path
from typing import Any

import msgspec

from mlops_assets.serving.security.state_file import StateFileError, read_text, replace_text

FILE = "deployment.json"


class DeployedVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version that may be served.

    Attributes
    ----------
    version
        Its number.
    folder
        Its model folder, relative to the deployment file.
    threshold
        Probability at and above which the answer is yes; None for a task without one.
    candidate, algorithm
        What it is.
    registered_at
        When it was registered, ISO 8601.
    learnt_until
        Last calendar day it learnt from, ISO 8601.
    training_set
        Version of the training set: `training/flight_delay@3`.
    metrics
        As its evaluation names them.
    """

    version: int
    folder: str
    threshold: float | None
    candidate: str
    algorithm: str
    registered_at: str
    learnt_until: str
    training_set: str
    metrics: dict[str, float] = {}


class DeployedFamily(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A family and its versions.

    Attributes
    ----------
    declaration
        The family as it is declared, as JSON.
    spine
        Columns that say what is scored: a serialised Arrow schema.
    champion
        Who serves.
    challenger
        Who waits for the gate; None when nobody does.
    """

    declaration: dict[str, Any]
    spine: bytes
    champion: DeployedVersion
    challenger: DeployedVersion | None = None


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that should be served.

    Attributes
    ----------
    families
        By name.
    """

    families: dict[str, DeployedFamily] = {}


def read_deployment(folder: Path) -> Deployment:
    """Read what should be served; nothing where it was never written.

    Raises
    ------
    StateFileError
        When the file cannot be read, or is of another version of the platform.
    """
    path = folder / FILE
    text = read_text(path)
    if text is None:
        return Deployment()
    try:
        return msgspec.json.decode(text, type=Deployment)
    except msgspec.DecodeError as error:
        raise StateFileError(
            f"{path} says not what to serve: {error}. Remove it; it is written again"
        ) from error


def write_deployment(folder: Path, deployment: Deployment) -> None:
    """Replace what should be served, in one step."""
    text = msgspec.json.format(msgspec.json.encode(deployment), indent=1).decode()
    replace_text(folder / FILE, text)
