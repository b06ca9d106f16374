"""What can go wrong in the production loop."""


class ProductionError(ValueError):
    """Something cannot be done as asked; the message says why and what to do."""


class IncidentNotFoundError(ProductionError):
    """There is no such incident, or more than one; the message says which come near."""


class RestoreError(ProductionError):
    """A table cannot be brought back; nothing has changed."""


class NoChampionError(ProductionError):
    """A family has no champion yet, so nothing can be answered or compared."""
