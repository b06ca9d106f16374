"""A lock is held by one, waited for so long and no longer, and free once its holder is dead."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.file_lock import file_lock


class TakenError(RuntimeError):
    """What a caller of the lock raises."""


HOLD = """
import sys
from pathlib import Path
from mlops_assets.file_lock import file_lock

with file_lock(Path(sys.argv[1]), timeout=1, error=RuntimeError, when_held="taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_refused_while_another_process_holds_it_and_free_once_that_is_killed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "locks" / "one.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(TakenError, match=r"^one\.lock is taken$"),
            file_lock(path, timeout=0.1, error=TakenError, when_held="one.lock is taken"),
        ):
            pytest.fail("two processes hold the lock")
        other.kill()
    with file_lock(path, timeout=0, error=TakenError, when_held="one.lock is taken"):
        assert path.exists()


def test_one_who_waits_gets_it_when_the_block_of_the_holder_ends(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        other.stdin.close()
        with file_lock(path, timeout=60, error=TakenError, when_held="one.lock is taken"):
            pass
    assert other.returncode == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "one.lock"
    with (
        pytest.raises(TakenError, match=rf"^{path} cannot be written \(.+\).*folder writable"),
        file_lock(path, timeout=0, error=TakenError, when_held="one.lock is taken"),
    ):
        pytest.fail("there is no such lock")


def test_an_error_of_the_block_is_its_own(tmp_path: Path) -> None:
    with (
        pytest.raises(TimeoutError, match="of the block"),
        file_lock(tmp_path / "one.lock", timeout=0, error=TakenError, when_held="taken"),
    ):
        raise TimeoutError("of the block")
