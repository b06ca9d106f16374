"""A search killed in the middle goes on: nothing that ended is repeated or lost."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("tuning_program.py")
TRIALS = 16


def command(storage: Path, workers: int) -> list[str]:
    return [sys.executable, str(PROGRAM), str(storage), str(TRIALS), str(workers)]


def environment(log: Path) -> dict[str, str]:
    """Have the estimator write down the parameters of every fit it begins."""
    return {**os.environ, "SLOPE_LOG": str(log)}


def run_to_the_end(storage: Path, log: Path, workers: int = 1) -> tuple[list[int], Any]:
    """Return the numbers of the trials that ended in this run, and what it found."""
    done = subprocess.run(
        command(storage, workers), env=environment(log), capture_output=True, text=True, check=True
    )
    *numbers, found = done.stdout.splitlines()
    return [int(number) for number in numbers], json.loads(found)


def run_and_kill(storage: Path, log: Path, ends: int, workers: int = 1) -> list[int]:
    """Kill the search when so many trials have ended; return their numbers."""
    numbers: list[int] = []
    with subprocess.Popen(
        command(storage, workers), env=environment(log), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            numbers.append(int(line))
            if len(numbers) == ends:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return numbers


def fits(log: Path) -> Counter[str]:
    return Counter(log.read_text(encoding="utf-8").splitlines())


def settled(found: Any) -> list[list[Any]]:
    """Return the trials without their numbers, less those the kill interrupted."""
    return [trial[1:] for trial in found["trials"] if "was killed" not in trial[-1]]


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("unkilled")
    numbers, found = run_to_the_end(folder, folder / "log")
    assert numbers == list(range(TRIALS))
    assert set(fits(folder / "log").values()) == {1}
    return found


def test_killed_at_half_it_ends_as_if_it_had_not_been(tmp_path: Path, unkilled: Any) -> None:
    log = tmp_path / "log"
    before = run_and_kill(tmp_path, log, ends=TRIALS // 2)
    assert before[: TRIALS // 2] == list(range(TRIALS // 2))
    after, found = run_to_the_end(tmp_path, log)
    assert not set(before) & set(after), "a finished trial ran again"
    assert len(settled(found)) == TRIALS
    assert settled(found) == settled(unkilled)
    assert found["best"] == unkilled["best"]
    interrupted = [trial for trial in found["trials"] if "was killed" in trial[-1]]
    assert len(interrupted) <= 1, "there was one worker"
    # Only the fit that the kill interrupted was begun twice.
    repeated = {parameters: count for parameters, count in fits(log).items() if count > 1}
    assert len(repeated) <= 1
    assert set(repeated.values()) <= {2}


def test_killed_again_and_again_it_still_ends_so(tmp_path: Path, unkilled: Any) -> None:
    log = tmp_path / "log"
    told: list[int] = []
    for _ in range(2):
        told += run_and_kill(tmp_path, log, ends=3)
    after, found = run_to_the_end(tmp_path, log)
    told += after
    assert len(told) == len(set(told)), "a finished trial was told twice"
    assert settled(found) == settled(unkilled)
    assert found["best"] == unkilled["best"]


def test_with_several_workers_nothing_is_repeated_or_lost(tmp_path: Path) -> None:
    log = tmp_path / "log"
    before = run_and_kill(tmp_path, log, ends=TRIALS // 2, workers=2)
    after, found = run_to_the_end(tmp_path, log, workers=2)
    assert not set(before) & set(after)
    assert set(before) | set(after) <= {trial[0] for trial in found["trials"]}
    assert len(settled(found)) == TRIALS
    interrupted = [trial for trial in found["trials"] if "was killed" in trial[-1]]
    assert len(interrupted) <= 2
    assert sum(count - 1 for count in fits(log).values()) <= 2


def test_a_line_cut_short_is_no_end_of_the_study(tmp_path: Path, unkilled: Any) -> None:
    """As a full disk or a power cut leaves it."""
    log = tmp_path / "log"
    run_and_kill(tmp_path, log, ends=5)
    (journal,) = tmp_path.glob("*.journal")
    with journal.open("ab") as file:
        file.write(b'{"op_code":5,"worker_id":"torn')
    _, found = run_to_the_end(tmp_path, log)
    assert settled(found) == settled(unkilled)


def test_workers_end_with_the_search(tmp_path: Path) -> None:
    """Killed in the middle of a long fit, it leaves no process behind."""
    import psutil

    with subprocess.Popen(
        [*command(tmp_path, 1), "--slow"],
        env=environment(tmp_path / "log"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while not (tmp_path / "log").exists():
            assert process.poll() is None
        (worker,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([worker], timeout=60)
    assert not alive
