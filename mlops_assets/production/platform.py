"""What a deployment is made of: its settings, and what is opened from them."""

from functools import cached_property
from typing import TYPE_CHECKING

from mlops_assets.lake import Lake
from mlops_assets.settings import Settings

if TYPE_CHECKING:
    from mlops_assets.production.decisions import NewestDecisions
    from mlops_assets.registry import Registry


class Platform:
    """What a step needs of the deployment it runs in.

    Nothing is opened before it is first used, so that definitions load without touching the lake.

    Parameters
    ----------
    settings
        Of this deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def lake(self) -> Lake:
        """The lake of this deployment."""
        return Lake.from_settings(self.settings)

    @cached_property
    def registry(self) -> "Registry":
        """The model registry of this deployment."""
        from mlops_assets.registry import Registry

        return Registry.from_settings(self.settings, self.lake)

    @cached_property
    def decisions(self) -> "NewestDecisions":
        """The newest retraining decisions of this deployment."""
        from mlops_assets.production.decisions import NewestDecisions

        return NewestDecisions(self.lake)
