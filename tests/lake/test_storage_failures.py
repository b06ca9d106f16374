"""Full disks and read-only folders: a clear error, and the old version stays readable."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.lake import (
    Lake,
    LakeError,
    StorageFullError,
    StorageReadOnlyError,
    TableName,
)
from mlops_assets.settings import DuckDBLimits
from tests.disks import small_disk

Rows = Callable[..., pa.Table]


FULL = """
import resource, sys, signal
import pyarrow as pa
from pathlib import Path
from mlops_assets.lake import Lake, LakeError, TableName
from mlops_assets.settings import DuckDBLimits

root, where = Path(sys.argv[1]), sys.argv[2]
limits = DuckDBLimits(memory_limit="512MiB", threads=1, scratch=root / "scratch")
lake = Lake(str(root / "lake"), limits=limits)
data = pa.table({"x": pa.array(range(2_000_000), pa.int64())})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    lake.overwrite(TableName("raw", "flights"), data if where == "table" else data.to_reader())
except LakeError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("where", "folder"), [("table", "lake/raw/flights"), ("spool", "scratch")])
def test_a_file_that_cannot_grow_is_reported_as_full(
    tmp_path: Path, lake: Lake, where: str, folder: str
) -> None:
    table = TableName("raw", "flights")
    lake.overwrite(table, pa.table({"x": pa.array([1], pa.int64())}))
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), where],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("StorageFullError "), done.stdout
    assert str(tmp_path / folder) in done.stdout
    assert "run again" in done.stdout
    assert lake.version(table) == 0
    assert lake.read(table).read_all()["x"].to_pylist() == [1]
    lake.overwrite(table, pa.table({"x": pa.array([2], pa.int64())}))
    assert lake.read(table).read_all()["x"].to_pylist() == [2]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where this machine lets us mount one."""
    with small_disk(tmp_path / "disk", "2m") as disk:
        yield disk


def test_a_full_disk(tiny_disk: Path, limits: DuckDBLimits) -> None:
    lake = Lake(str(tiny_disk), limits=limits)
    table = TableName("raw", "flights")
    lake.overwrite(table, pa.table({"x": pa.array([1], pa.int64())}))
    large = pa.table({"x": pa.array(range(1_000_000), pa.int64())})
    with pytest.raises(StorageFullError, match=f"no space left at {tiny_disk}/raw/flights"):
        lake.overwrite(table, large)
    assert lake.version(table) == 0
    assert lake.read(table).read_all()["x"].to_pylist() == [1]


def test_a_read_only_disk(tiny_disk: Path, limits: DuckDBLimits, rows: Rows) -> None:
    lake = Lake(str(tiny_disk), limits=limits)
    table = TableName("raw", "flights")
    lake.overwrite(table, rows(1))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(StorageReadOnlyError, match=f"{tiny_disk}/raw/flights cannot be written"):
        lake.overwrite(table, rows(2))
    with pytest.raises(StorageReadOnlyError, match="raw/planes"):
        lake.create(TableName("raw", "planes"), rows(1).schema)
    assert lake.read(table).read_all().num_rows == 4
    with lake.connect() as con:
        assert con.sql("SELECT count(*) FROM raw.flights").fetchall() == [(4,)]


UNPRIVILEGED = """
import os, sys
import pyarrow as pa
from pathlib import Path
from mlops_assets.lake import Lake, StorageReadOnlyError, TableName
from mlops_assets.settings import DuckDBLimits

root, scratch = Path(sys.argv[1]), Path(sys.argv[2])
lake = Lake(str(root), limits=DuckDBLimits(memory_limit="512MiB", threads=1, scratch=scratch))
flights, data = TableName("raw", "flights"), pa.table({"x": [2]})
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
for write in (
    lambda: lake.overwrite(flights, data),
    lambda: lake.append(flights, data.to_reader()),
    lambda: lake.merge(flights, data, ["x"]),
    lambda: lake.create(TableName("raw", "planes"), data.schema),
    lambda: lake.restore(flights, 0),
):
    try:
        write()
    except StorageReadOnlyError as error:
        print(error)
"""


def test_a_folder_without_permission(flights: TableName) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own belongs to this user alone
        root, scratch = Path(folder) / "lake", Path(folder) / "scratch"
        scratch.mkdir()
        limits = DuckDBLimits(memory_limit="512MiB", threads=1, scratch=scratch)
        lake = Lake(str(root), limits=limits)
        lake.overwrite(flights, pa.table({"x": [1]}))
        lake.overwrite(flights, pa.table({"x": [1]}))
        for path in (root, *root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        Path(folder).chmod(0o755)
        scratch.chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, str(root), str(scratch)],
            capture_output=True,
            text=True,
            check=False,
        )
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        assert done.returncode == 0, done.stderr
        messages = done.stdout.splitlines()
        assert len(messages) == 5, done.stdout + done.stderr
        for message in messages:
            assert "Make the folder writable" in message
            assert str(root) in message
        assert lake.version(flights) == 1
        assert lake.read(flights).read_all()["x"].to_pylist() == [1]


def test_a_file_where_a_folder_should_be(lake: Lake, flights: TableName, rows: Rows) -> None:
    Path(lake.root).mkdir()
    (Path(lake.root) / "raw").write_text("in the way")
    with pytest.raises(LakeError, match="raw/flights"):
        lake.overwrite(flights, rows(1))


def test_a_scratch_that_cannot_be_made(tmp_path: Path, rows: Rows, flights: TableName) -> None:
    (tmp_path / "file").write_text("in the way")
    scratch = tmp_path / "file" / "scratch"
    lake = Lake(
        str(tmp_path / "lake"),
        limits=DuckDBLimits(memory_limit="512MiB", threads=1, scratch=scratch),
    )
    with pytest.raises(StorageReadOnlyError, match=str(scratch)), lake.connect():
        pass
    with pytest.raises(StorageReadOnlyError, match=str(scratch)):
        lake.overwrite(flights, rows(1).to_reader())
    assert not lake.exists(flights)


def test_a_data_file_that_is_gone_is_named(lake: Lake, flights: TableName, rows: Rows) -> None:
    lake.overwrite(flights, rows(1))
    lake.overwrite(flights, rows(2))
    for file in Path(lake.uri(flights)).glob("*.parquet"):
        file.unlink()
    with pytest.raises(LakeError, match=r"raw/flights.*\.parquet"):
        lake.read(flights).read_all()
    with pytest.raises(LakeError, match=r"raw/flights.*\.parquet"), lake.connect():
        pass
