"""The app of a worker that serves the small world, and ways to ask it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mlops_assets.serving.worker import build_app
from mlops_assets.settings import Settings, load_settings
from tests.serving.world import World, make_feature_views, world_in


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the workers of pytest-xdist have it in common
    return world_in(folder)


@pytest.fixture
def settings(world: World, tmp_path: Path) -> Settings:
    return deployment_in(tmp_path / "home", world)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """Ask the app of one worker."""
    with client_of(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_client(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Ask the app of one worker, for tests that change nothing."""
    home = tmp_path_factory.mktemp("shared") / "home"
    with client_of(deployment_in(home, world)) as opened:
        yield opened


def deployment_in(home: Path, world: World, **given: Any) -> Settings:
    """Return settings of a deployment of its own: the world's models and tables, its own log."""
    shutil.copytree(world.folder, home / "serving")
    return load_settings(
        **{
            "home": home,
            "lake_uri": world.settings.lake_uri,
            "online_store_url": world.settings.online_store_url,
            "threads": 2,
            **given,
        }
    )


def client_of(settings: Settings) -> TestClient:
    """Return a caller of the app of one worker; the app lives in its `with` block."""
    app = build_app(settings, make_feature_views)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
