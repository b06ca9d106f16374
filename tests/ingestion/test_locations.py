"""Files are found by path, glob, date, package or URL, and copied only while they stand still."""

import threading
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mlops_assets.ingestion import (
    FileSource,
    SourceChangedError,
    SourceNotFoundError,
    SourceUnavailableError,
    Staged,
)
from mlops_assets.ingestion.copies import take_copy
from mlops_assets.ingestion.locations import locate
from mlops_assets.ingestion.scratch import scratch_folder
from mlops_assets.lake import Window

Stage = Callable[..., Staged]
Rows = Callable[[str], list[tuple[Any, ...]]]
N = {"n": "INTEGER"}


def found(path: str, root: Path, **options: Any) -> list[str]:
    source = FileSource(path=path, format="csv", **options)
    return [location.uri for location in locate(source, root=root, window=None)]


def test_globs_find_files_in_order(root: Path) -> None:
    for name in ("b.csv", "a.csv", "a.txt", "deep/er/c.csv", "deep/d.csv", "x[1].csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("n\n")
    assert found("[ab].csv", root) == ["a.csv", "b.csv"]
    assert found("**/*.csv", root) == ["a.csv", "b.csv", "deep/d.csv", "deep/er/c.csv", "x[1].csv"]
    assert found("x[1].csv", root) == ["x[1].csv"]
    assert found(f"{root}/deep/*.csv", root) == ["deep/d.csv"]
    assert found("../project/a.csv", root)[0].endswith("a.csv")


def test_a_folder_is_not_a_file(root: Path) -> None:
    (root / "data.csv").mkdir()
    with pytest.raises(SourceNotFoundError, match=r"data\.csv"):
        found("data.csv", root)


def test_nothing_found_names_pattern_and_folder(root: Path) -> None:
    with pytest.raises(SourceNotFoundError) as raised:
        found("landing/*.csv", root)
    assert "landing/*.csv" in str(raised.value)
    assert str(root) in str(raised.value)
    assert found("landing/*.csv", root, required=False) == []


def test_a_package_that_is_not_installed_is_named(root: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no_such_package_here"):
        found("a.csv", root, package="no_such_package_here")


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_object_stores_are_read_like_folders(
    staging: Stage, rows: Rows, memory: fsspec.AbstractFileSystem
) -> None:
    for day in (1, 2, 3):
        memory.pipe(f"/bucket/f-2013-01-0{day}.csv", f"n,day\n{day},2013-01-0{day}\n".encode())
    types = {**N, "day": "DATE"}
    staged = staging({"path": "memory://bucket/f-{date}.csv"}, types)
    assert rows("n") == [(1,), (2,), (3,)]
    assert staged.files[0].uri == "memory:///bucket/f-2013-01-01.csv"
    window = Window("day", date(2013, 1, 2), date(2013, 1, 3))
    assert staging({"path": "memory://bucket/f-{date}.csv"}, types, window=window).rows == 1
    assert staging({"path": "memory://bucket/*.csv"}, types).rows == 3
    with pytest.raises(SourceNotFoundError, match="g-2013-01-02"):
        staging({"path": "memory://bucket/g-{date}.csv"}, types, window=window)


@pytest.fixture
def server(root: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own signature
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_server_is_a_source(staging: Stage, rows: Rows, root: Path, server: str) -> None:
    (root / "f.csv").write_text("n\n1\n2\n")
    staged = staging({"path": f"{server}/f.csv?signature=s3cret"}, N)
    assert rows("n, _source") == [(1, f"{server}/f.csv"), (2, f"{server}/f.csv")]
    assert staged.files[0].bytes == 6


def test_a_page_that_is_not_there_is_not_found(staging: Stage, server: str) -> None:
    with pytest.raises(SourceNotFoundError, match=r"absent\.csv"):
        staging({"path": f"{server}/absent.csv"}, N)
    assert staging({"path": f"{server}/absent.csv", "required": False}, N).rows == 0


def test_a_server_that_is_down_is_told_without_credentials(staging: Stage) -> None:
    source = {"path": "https://me:s3cret@127.0.0.1:9/f.csv?sig=hidden"}
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:9/f\.csv") as raised:
        staging({**source, "required": False}, N)  # down is not the same as no rows
    assert "s3cret" not in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_a_file_that_changes_once_is_read_again(root: Path, tmp_path: Path) -> None:
    path = root / "f.csv"
    path.write_text("n\n1\n")
    source = FileSource(path="f.csv")
    (location,) = locate(source, root=root, window=None)
    opened = []

    def change_while_open() -> Any:
        stream = path.open("rb")
        if not opened:
            path.write_text("n\n1\n2\n")
        opened.append(stream)
        return stream

    changing = type(location)(
        location.uri, None, location.fingerprint, change_while_open, location.guard
    )
    pauses: list[float] = []
    copy = take_copy(changing, source, tmp_path, pause=pauses.append)
    assert copy.path.read_text() == "n\n1\n2\n"
    assert (len(opened), pauses) == (2, [0.2])


def test_a_file_replaced_by_one_of_the_same_size_is_noticed(root: Path, tmp_path: Path) -> None:
    path = root / "f.csv"
    path.write_text("n\n1\n")
    source = FileSource(path="f.csv")
    (location,) = locate(source, root=root, window=None)

    def replace_while_open() -> Any:
        stream = path.open("rb")
        other = root / "f.csv.new"
        other.write_text("n\n2\n")
        other.replace(path)
        return stream

    changing = type(location)(
        location.uri, None, location.fingerprint, replace_while_open, location.guard
    )
    pauses: list[float] = []
    with pytest.raises(SourceChangedError, match="4 times in a row"):
        take_copy(changing, source, tmp_path, pause=pauses.append)
    assert pauses == [0.2, 0.4, 0.8]


def test_scratch_is_removed_and_abandoned_scratch_is_swept(tmp_path: Path) -> None:
    abandoned = tmp_path / "ingest-abandoned"
    abandoned.mkdir()
    (abandoned / ".lock").touch()
    with scratch_folder(tmp_path) as outer:
        assert not abandoned.exists()
        with scratch_folder(tmp_path) as inner:
            assert outer.exists()
            assert inner.exists()
        assert outer.exists()
        assert not inner.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["ingest-lock"]
