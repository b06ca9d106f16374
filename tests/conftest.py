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
# What takes longest comes first, so that the workers end together. Tests of a folder that is named
# here share something that takes long to make, so that one worker runs them all.
_TOGETHER = ("demo", "tests/dbt_project/")
_FIRST = ("demo", "tests/runs/", "tests/dbt_project/", "tests/cli/test_up.py", "tests/serving/")


def _place(nodeid: str) -> str:
    """Return the file of a test, or what it shares with tests of other files."""
    file, _, _ = nodeid.partition("::")
    found = "demo" if file.startswith(_NEED_THE_DEMO) else file
    return next((shared for shared in _TOGETHER if found.startswith(shared)), found)


def _rank(nodeid: str) -> int:
    place = _place(nodeid)
    return next((i for i, named in enumerate(_FIRST) if place.startswith(named)), len(_FIRST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, the demo before all."""
    items.sort(key=lambda item: _rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep tests that share something on one worker, and those of any other file together."""
    return _ByPlace(config, log)


class _ByPlace(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _place(nodeid)


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
