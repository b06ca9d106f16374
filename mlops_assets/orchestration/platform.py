"""The one resource of the platform: settings, and what is opened from them."""

from functools import cached_property

from mlops_assets.lake import Lake
from mlops_assets.settings import Settings

RESOURCE_KEY = "platform"


class Platform:
    """What an asset needs of the deployment it runs in.

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
