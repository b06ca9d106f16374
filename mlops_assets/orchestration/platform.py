"""The one resource of all assets: the deployment they run in."""

from mlops_assets.production.platform import Platform

__all__ = ["RESOURCE_KEY", "Platform"]

RESOURCE_KEY = "platform"
