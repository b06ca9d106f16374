"""A small lake with some history, and the ``mlops`` command as a user runs it."""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_assets.cli.main import run as run_command
from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import current_settings, load_settings
from tests.demo import MLOPS, environment_of

ORDERS = TableName("raw", "orders")
COLUMNS = pa.schema(
    [
        pa.field("order_id", pa.int64(), metadata={"comment": "Key of the order."}),
        pa.field("amount", pa.float64(), metadata={"comment": "What was paid, in euro."}),
    ]
)


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def told(self) -> Any:
        """What it printed as JSON, of a command that succeeded."""
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout)


Run = Callable[..., Done]


def orders(*rows: tuple[int, float]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"order_id": key, "amount": amount} for key, amount in rows], schema=COLUMNS
    )


@pytest.fixture(scope="module")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one table with three versions of one, two and three rows, in three files."""
    home = tmp_path_factory.mktemp("small") / "home"
    lake = Lake.from_settings(load_settings(home=home))
    lake.overwrite(ORDERS, orders((1, 10.0)), description="Orders of the shop.")
    lake.append(ORDERS, orders((2, 20.0)))
    lake.append(ORDERS, orders((3, 30.0)), metadata={"batch": "third"})
    return home


@pytest.fixture
def home(small_home: Path, tmp_path: Path) -> Path:
    """The small lake, for one test to change."""
    return Path(shutil.copytree(small_home, tmp_path / "home"))


@pytest.fixture
def lake(home: Path) -> Lake:
    return Lake.from_settings(load_settings(home=home))


@pytest.fixture
def run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the command by its entry point in this process: what it needs is imported once for all.

    Named arguments are variables of its environment.
    """
    before = dict(os.environ)

    def run(*arguments: str, **variables: str) -> Done:
        os.environ.clear()
        os.environ.update({**environment_of(home, before), "COLUMNS": "200", **variables})
        current_settings.cache_clear()
        monkeypatch.setattr("sys.argv", ["mlops", *arguments])
        capsys.readouterr()
        code = run_command()
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    yield run
    os.environ.clear()
    os.environ.update(before)
    current_settings.cache_clear()


def in_terminal(home: Path, *arguments: str, columns: int = 80) -> str:
    """Run the command in a terminal of so many columns; what it shows, without colours."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {
        name: value
        for name, value in environment_of(home).items()
        if name not in {"COLUMNS", "LINES"}
    }
    with subprocess.Popen(
        [*MLOPS, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**environment, "TERM": "xterm"},
    ):
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(reader, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(reader)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")
