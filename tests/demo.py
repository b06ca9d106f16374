"""One run of the whole demo, shared by all tests that need its result.

It takes minutes, so a test session runs it once, as a user would: the ``mlops demo`` command in a
process of its own, with an empty home. ``MLOPS_TEST_DEMO_HOME`` names a home in which it has
already run; a copy of it is used then, which is for working on these tests.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlops_assets.lake import Lake
from mlops_assets.registry import Registry
from mlops_assets.registry.moving import mend_places
from mlops_assets.settings import Settings, load_settings

FINISHED_HOME = "MLOPS_TEST_DEMO_HOME"
MLOPS = (sys.executable, "-m", "mlops_assets.cli.main")
_OUTPUT = "demo-output.txt"
_SUMMARY = "demo-summary.json"


@dataclass(frozen=True)
class Demo:
    """A home in which the demo has run.

    Attributes
    ----------
    home
        ``MLOPS_HOME`` of that run.
    output
        What it printed; empty if it ran before this session.
    summary
        What ``mlops status --json`` says of it.
    """

    home: Path
    output: str
    summary: dict[str, Any]

    @cached_property
    def settings(self) -> Settings:
        """Settings of this home."""
        return load_settings(home=self.home)

    @cached_property
    def lake(self) -> Lake:
        """Its lake."""
        return Lake.from_settings(self.settings)

    @cached_property
    def registry(self) -> Registry:
        """Its models."""
        return Registry.from_settings(self.settings, self.lake)

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a process that works in this home."""
        return environment_of(self.home)


def environment_of(home: Path, before: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which nothing but the home is set for the platform."""
    inherited = {k: v for k, v in before.items() if not k.startswith(("MLOPS_", "DAGSTER_H"))}
    return {**inherited, "MLOPS_HOME": str(home)}


def mlops(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the ``mlops`` command in a home and return how it ended and what it printed."""
    return subprocess.run(
        [*MLOPS, *arguments],
        env=environment_of(home),
        capture_output=True,
        text=True,
        check=False,
    )


def demo_in(folder: Path) -> Demo:
    """Run the demo in a folder, or wait for the process that runs it there, and return its result.

    Parameters
    ----------
    folder
        Shared by all worker processes of this test session.

    Raises
    ------
    AssertionError
        With the end of its output, if the demo failed.
    """
    home = folder / "demo"
    with _lock(folder / "demo.lock"):
        if not (folder / _OUTPUT).exists():
            (folder / _OUTPUT).write_text(_make(home))
        output = (folder / _OUTPUT).read_text()
        if not (folder / _SUMMARY).exists():
            status = mlops(home, "status", "--json")
            assert status.returncode == 0, f"the demo has left no state:\n{output}{status.stderr}"
            (folder / _SUMMARY).write_text(status.stdout)
    assert "exit code" not in output, f"the demo failed:\n{output[-6000:]}"
    return Demo(home, output, json.loads((folder / _SUMMARY).read_text()))


def _make(home: Path) -> str:
    if finished := os.environ.get(FINISHED_HOME):
        copy_home(Path(finished), home)
        return ""
    ran = mlops(home, "demo")
    failed = f"\nexit code {ran.returncode}\n{ran.stderr}" if ran.returncode else ""
    return ran.stdout + failed


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process of a test session at a time inside; a lock ends with its process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def copy_home(source: Path, target: Path) -> Path:
    """Copy a home so that nothing that is done in the copy reaches the original.

    MLflow remembers where each model's files are as absolute paths; they are rewritten.
    """
    shutil.copytree(source, target)
    places = (f"{folder.resolve()}/" for folder in (source, target))
    mend_places(target / "mlflow" / "mlflow.db", *places)
    return target
