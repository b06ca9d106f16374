"""Time several ways of doing one thing, side by side in one run, and print them as one table.

What belongs here: timing, peak memory, the order of runs and the table. What is measured belongs
in the benchmark script; how its data are made does too. Only the standard library is imported, so
a script that runs in a peer's own environment can import this module as well (see `report`).

A benchmark script reads::

    comparison = side_by_side({"ours": ours, "bare": bare}, runs=5)
    print(comparison.table("Point-in-time join, 5 million rows"))
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_MIB = 1 << 20
_POLL_S = 0.1


@dataclass(frozen=True)
class Sample:
    """One run of one candidate.

    Attributes
    ----------
    seconds
        Wall-clock time of the run.
    peak_mb
        Peak resident memory of its process in MiB; None where it shared a process with others.
    """

    seconds: float
    peak_mb: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One way of doing the work.

    Attributes
    ----------
    run
        What is timed. Takes what ``prepare`` returned, or nothing where there is no ``prepare``.
        If it returns a `Sample`, that is taken instead of the time measured around it.
    prepare
        Untimed set-up, such as imports and opening files, in the same process before each run.
    """

    run: Callable[..., Any]
    prepare: Callable[[], Any] | None = None

    def measure(self) -> Sample:
        """Run once in this process."""
        arguments = () if self.prepare is None else (self.prepare(),)
        gc.collect()
        start = time.perf_counter()
        result = self.run(*arguments)
        elapsed = time.perf_counter() - start
        return result if isinstance(result, Sample) else Sample(elapsed)


@dataclass(frozen=True)
class Outcome:
    """All runs of one candidate, and why it stopped early if it did."""

    samples: tuple[Sample, ...]
    stopped: str = ""

    @property
    def median(self) -> float | None:
        """Median seconds, None where no run ended."""
        return statistics.median(s.seconds for s in self.samples) if self.samples else None

    @property
    def peak_mb(self) -> float | None:
        """Largest peak of any run in MiB, None where it was not measured."""
        return max((s.peak_mb for s in self.samples if s.peak_mb is not None), default=None)


@dataclass(frozen=True)
class Comparison:
    """What `side_by_side` measured, by candidate, in the order they were given."""

    outcomes: Mapping[str, Outcome]
    base: str

    def ratio(self, name: str) -> float | None:
        """Median of ``name`` over the median of the base; None where either never finished."""
        ours, bare = self.outcomes[name].median, self.outcomes[self.base].median
        return None if ours is None or not bare else ours / bare

    def table(self, title: str) -> str:
        """Return the comparison as a Markdown table under ``title``."""
        lines = [
            f"\n### {title}\n",
            f"| | median s | min | max | peak MB | ÷ {self.base} | runs |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for name, outcome in self.outcomes.items():
            seconds = [s.seconds for s in outcome.samples]
            cells = [
                _number(outcome.median, 3),
                _number(min(seconds, default=None), 3),
                _number(max(seconds, default=None), 3),
                _number(outcome.peak_mb, 0),
                _number(self.ratio(name), 2),
                str(len(seconds)),
            ]
            label = f"{name} ({outcome.stopped})" if outcome.stopped else name
            lines.append(f"| {label} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {
            "base": self.base,
            "candidates": {
                name: {
                    "median_s": outcome.median,
                    "seconds": [s.seconds for s in outcome.samples],
                    "peak_mb": outcome.peak_mb,
                    "ratio": self.ratio(name),
                    "stopped": outcome.stopped,
                }
                for name, outcome in self.outcomes.items()
            },
        }


@dataclass
class _Progress:
    """What one candidate has done so far; becomes an `Outcome`."""

    candidate: Candidate
    samples: list[Sample] = field(default_factory=list)
    stopped: str = ""


class DidNotFinishError(RuntimeError):
    """A candidate did not finish: it failed, ran out of time or out of memory."""


def side_by_side(
    candidates: Mapping[str, Callable[..., Any] | Candidate],
    *,
    runs: int = 5,
    warmups: int = 1,
    base: str = "bare",
    isolated: bool = False,
    timeout_s: float | None = None,
    memory_limit_mb: float | None = None,
    tolerate: Sequence[str] = (),
) -> Comparison:
    """Run every candidate ``runs`` times, in an order that reverses each round.

    Parameters
    ----------
    candidates
        What to run, by the name shown in the table.
    runs, warmups
        Timed rounds, and untimed rounds before them (page cache, lazy imports).
    base
        The candidate that ratios refer to; the last one where none has this name.
    isolated
        Run each in a fresh (spawned) process and measure its peak memory. The candidate must then
        be picklable: a module-level function, or a `functools.partial` of one; and the script needs
        ``if __name__ == "__main__"``. Time to start the process is not counted; imports inside the
        candidate are.
    timeout_s, memory_limit_mb
        Isolated only: stop a run that exceeds either; that candidate then runs no more.
    tolerate
        Names of candidates (peers) whose failure is shown in the table. Any other's is raised.

    Raises
    ------
    DidNotFinishError
        When a candidate that is not in ``tolerate`` did not finish.
    """
    progress = {
        name: _Progress(c if isinstance(c, Candidate) else Candidate(c))
        for name, c in candidates.items()
    }
    for round_number in range(warmups + runs):
        names = list(progress) if round_number % 2 == 0 else list(reversed(progress))
        for name in names:
            current = progress[name]
            if current.stopped:
                continue
            try:
                if isolated:
                    sample = _in_fresh_process(current.candidate, timeout_s, memory_limit_mb)
                else:
                    sample = current.candidate.measure()
            except Exception as error:
                if name not in tolerate:
                    raise DidNotFinishError(f"{name}: {error}") from error
                current.stopped = str(error).splitlines()[-1][:120] or type(error).__name__
                continue
            if round_number >= warmups:
                current.samples.append(sample)
    return Comparison(
        {name: Outcome(tuple(p.samples), p.stopped) for name, p in progress.items()},
        base if base in progress else list(progress)[-1],
    )


def external(*command: str | Path, timeout_s: float | None = None) -> Candidate:
    """Return a candidate that runs a command whose last line of output `report` printed.

    Use it for a peer that lives in an environment of its own:
    ``external(".peers/feast/bin/python", "peer_feast.py", "--rows", "1000")``.
    """
    return Candidate(_External(tuple(str(part) for part in command), timeout_s))


@dataclass(frozen=True)
class _External:
    command: tuple[str, ...]
    timeout_s: float | None

    def __call__(self) -> Sample:
        try:
            done = subprocess.run(
                self.command, capture_output=True, text=True, timeout=self.timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DidNotFinishError(f"stopped after {self.timeout_s:.0f} s") from error
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise DidNotFinishError(f"exit code {done.returncode}: {' '.join(last)}")
        return Sample(**json.loads(done.stdout.strip().splitlines()[-1]))


def report(run: Callable[[], Any]) -> None:
    """Time ``run`` in this process and print the line that `external` reads."""
    sample = Candidate(run).measure()
    print(json.dumps({"seconds": sample.seconds, "peak_mb": peak_mb()}))


def peak_mb(pid: int | None = None) -> float:
    """Peak resident memory of a process in MiB.

    From ``VmHWM``: on Linux ``ru_maxrss`` would also count the parent's memory at the time of the
    fork. Elsewhere, of this process only, ``ru_maxrss``.
    """
    return _status_mb("VmHWM", pid)


def _status_mb(key: str, pid: int | None) -> float:
    status = Path(f"/proc/{pid or 'self'}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
        return 0.0  # a process that has just ended has no memory left
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / _MIB if sys.platform == "darwin" else usage / 1024


def _child(candidate: Candidate, answer: Connection) -> None:
    try:
        sample = candidate.measure()
        peak = sample.peak_mb if sample.peak_mb is not None else peak_mb()
        answer.send(Sample(sample.seconds, peak))
    except BaseException:  # noqa: BLE001 - the parent reports it, whatever it is
        answer.send(traceback.format_exc())


def _in_fresh_process(
    candidate: Candidate, timeout_s: float | None, memory_limit_mb: float | None
) -> Sample:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(candidate, sender))
    process.start()
    sender.close()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        while not receiver.poll(_POLL_S):
            if deadline is not None and time.monotonic() > deadline:
                raise DidNotFinishError(f"stopped after {timeout_s:.0f} s")
            if memory_limit_mb and _status_mb("VmRSS", process.pid) > memory_limit_mb:
                raise DidNotFinishError(f"stopped above {memory_limit_mb:.0f} MB")
        try:
            answer = receiver.recv()
        except EOFError as error:
            process.join()
            raise DidNotFinishError(f"process died, exit code {process.exitcode}") from error
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(answer, Sample):
        return answer
    raise DidNotFinishError(str(answer).strip())


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def machine(*packages: str) -> str:
    """Return one line on where this ran: cores, memory, Python and the versions of ``packages``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    parts = [f"{cores} cores", f"{memory:.0f} GiB", f"Python {platform.python_version()}"]
    for package in packages:
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} absent")
    return ", ".join(parts)


def arguments(description: str | None, *, rows: int, runs: int = 5) -> argparse.ArgumentParser:
    """Return a parser with the options every benchmark takes: ``--rows``, ``--runs``, ``--json``.

    Raises
    ------
    SystemExit
        From ``parse_args``, when a value is not a positive number.
    """
    parser = argparse.ArgumentParser(
        description=(description or "").split("\n\n", maxsplit=1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rows", type=_positive, default=rows, help="rows of the data")
    parser.add_argument("--runs", type=_positive, default=runs, help="timed runs of each")
    parser.add_argument("--json", type=Path, default=None, help="also write the results here")
    return parser


def _positive(text: str) -> int:
    value = int(text.replace("_", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def write_json(path: Path | None, comparisons: Mapping[str, Comparison], **facts: Any) -> None:
    """Write ``comparisons`` and ``facts`` to ``path``; nothing where ``path`` is None."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**facts, "comparisons": {k: c.to_dict() for k, c in comparisons.items()}}
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")
