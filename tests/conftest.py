"""What every test can use."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.demo import Demo, copy_home, demo_in

# Set before any test imports MLflow or Dagster, which read them when they are imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "true"


_NEED_THE_DEMO = ("tests/browser/", "tests/e2e/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the demo, which takes longest; other workers run the rest meanwhile."""
    items.sort(key=lambda item: not item.nodeid.startswith(_NEED_THE_DEMO))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep the tests that need the demo on one worker, and those of any other file together."""
    return _ByFile(config, log)


class _ByFile(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return "demo" if file.startswith(_NEED_THE_DEMO) else file


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
