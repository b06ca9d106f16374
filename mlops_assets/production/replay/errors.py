"""What can go wrong with a replay before it begins."""

from mlops_assets.production.errors import ProductionError


class ReplayError(ProductionError):
    """A stretch of history cannot be replayed as asked; the message says why and what to do."""
