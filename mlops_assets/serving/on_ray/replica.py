"""The app of one worker as a replica of a Ray Serve deployment."""

import asyncio
import logging
import os
from typing import Any

import ray
from ray.exceptions import RayError

from mlops_assets.serving.metrics import FOLDER_VARIABLE
from mlops_assets.serving.on_ray.keeper import keeper_of
from mlops_assets.serving.security.guard import App
from mlops_assets.settings import current_settings

_READY_SECONDS = 60.0
_ASK_SECONDS = 5.0
_AGAIN_SECONDS = 0.5
_LOG = logging.getLogger(__name__)


class Replica:
    """One process that answers. Its settings are those of the machine that it runs on.

    Parameters
    ----------
    host
        What the cluster's proxies listen on: decides whether a call needs a token.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._node = ray.get_runtime_context().get_node_id()
        self._keeper: Any = keeper_of(self._node)

    async def __serve_build_asgi_app__(self) -> App:
        """Put the app together, once the machine has what it is to serve.

        Where the registry is away, it serves what the machine had before.
        """
        settings = current_settings().model_copy(update={"serve_host": self._host})
        # The numbers of a machine's replicas add up; those of an earlier run of Ray are not theirs.
        folder = settings.home / "serving" / "metrics" / self._node
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[FOLDER_VARIABLE] = str(folder)
        from mlops_assets.serving.worker import build_app  # which reads the variable

        if not await self._registry_was_looked_at():
            _LOG.warning("the registry cannot be looked at; serving what was deployed here before")
        return build_app(settings)

    async def check_health(self) -> None:
        """Tell the machine's keeper that it is needed, or start another; called by Ray."""
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await self._keeper.needed.remote()
        except (RayError, TimeoutError):
            self._keeper = await asyncio.to_thread(keeper_of, self._node)

    async def _registry_was_looked_at(self) -> bool:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while True:
                    try:
                        return bool(await self._keeper.ready.remote(_READY_SECONDS))
                    except RayError:  # it was just leaving, or has been ended by a new deployment
                        await asyncio.sleep(_AGAIN_SECONDS)
                        self._keeper = await asyncio.to_thread(keeper_of, self._node)
        except TimeoutError:
            return False
