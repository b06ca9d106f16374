"""What can be wrong with an online store, and with what is asked of it."""

from mlops_assets.features.errors import FeatureError


class OnlineStoreError(FeatureError):
    """The online store cannot be read or filled. What it held before, it still holds."""


class OnlineStoreUnavailableError(OnlineStoreError):
    """The online store does not answer now; trying again later may help."""


class EntityValueError(FeatureError, ValueError):
    """An entity is asked for by a value that its column cannot have, or not by its whole key.

    Attributes
    ----------
    row
        Position among the entities asked for, from 0.
    column
        The spine column.
    """

    def __init__(self, row: int, column: str, problem: str) -> None:
        self.row = row
        self.column = column
        super().__init__(f"entity {row}: {column} {problem}")
