"""What every test can use."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.demo import Demo, copy_home, demo_in

# Set before any test imports MLflow or Dagster, which read them when they are imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "true"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker begin with the demo and its tests, while the others run the rest by file."""
    groups = {item: str(item.path) for item in items}
    groups |= {item: "demo" for item in items if "demo" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: groups[item] != "demo")
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item]))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The whole demo, run once in this session. Its home is shared: read it, never write."""
    folder = tmp_path_factory.getbasetemp()
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if is_worker:
        folder = folder.parent  # the workers of pytest-xdist have it in common
    yield demo_in(folder)
    if not is_worker:  # else another worker may still read it
        shutil.rmtree(folder / "demo")


@pytest.fixture(scope="module")
def demo_copy(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A copy of the demo's home for the tests of one module, which may change it."""
    home = copy_home(demo.home, tmp_path_factory.mktemp("copy") / "home")
    yield Demo(home, demo.output, demo.summary)
    shutil.rmtree(home)
