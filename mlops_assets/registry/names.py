"""How a registered model is named: `flight_delay/3`, or `flight_delay@champion` by its role."""

import re
from dataclasses import dataclass
from enum import StrEnum

from mlops_assets.registry.errors import RegistryError

_REFERENCE = re.compile(r"(?P<family>[a-z][a-z0-9_]*)(?:/(?P<version>[1-9]\d*)|@(?P<alias>\w+))")


class Alias(StrEnum):
    """The roles a version can have in its family."""

    champion = "champion"
    challenger = "challenger"
    previous = "previous"


@dataclass(frozen=True)
class ModelReference:
    """A name of one registered model: exactly one of version and alias is given.

    Attributes
    ----------
    family
        Name of the model family.
    version
        Registry version, from 1.
    alias
        Role in the family.
    """

    family: str
    version: int | None = None
    alias: Alias | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        """Read `family/version` or `family@alias`.

        Raises
        ------
        RegistryError
            When the text is neither.
        """
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise RegistryError(
                f"{text!r} names no model; write flight_delay/3 or flight_delay@champion"
            )
        alias = found["alias"]
        if alias is not None and alias not in set(Alias):
            raise RegistryError(f"{text!r}: no alias {alias!r}; there are {', '.join(Alias)}")
        return cls(
            found["family"],
            int(found["version"]) if found["version"] else None,
            Alias(alias) if alias else None,
        )

    def __str__(self) -> str:
        return f"{self.family}@{self.alias}" if self.alias else f"{self.family}/{self.version}"
