"""Which versions of a family could share its requests, and what is declared about that."""

from dataclasses import dataclass
from pathlib import Path

from mlops_assets.declaration import find_problems
from mlops_assets.serving.deployment import FILE, read_deployment
from mlops_assets.serving.security.state_file import StateFileError
from mlops_assets.training.family_serving import ServingDeclaration


@dataclass(frozen=True)
class Contest:
    """Champion and challenger of a family, as they are deployed.

    Attributes
    ----------
    family
        Its name.
    champion, challenger
        Versions; no challenger where nobody waits.
    serving
        How the family is declared to be served.
    """

    family: str
    champion: int
    challenger: int | None
    serving: ServingDeclaration


def deployed_contests(folder: Path) -> dict[str, Contest]:
    """Read what is deployed.

    Parameters
    ----------
    folder
        Holds the deployment file.

    Returns
    -------
    dict
        By family; empty where nothing was ever deployed.

    Raises
    ------
    StateFileError
        When the deployment cannot be read, or declares what is no serving.
    """
    contests = {}
    for name, family in read_deployment(folder).families.items():
        declared = family.declaration.get("serving", {})
        if problems := find_problems(ServingDeclaration, declared):
            raise StateFileError(f"{folder / FILE}: {name}: serving.{problems[0]}")
        contests[name] = Contest(
            name,
            family.champion.version,
            family.challenger.version if family.challenger else None,
            ServingDeclaration.model_validate(declared),
        )
    return contests
