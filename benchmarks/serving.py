"""Serve one CatBoost model over HTTP: ours, the floor and the peers, side by side in one run.

``python benchmarks/serving.py`` fits a model of 500 trees on 20 features. It is served by `mlops
serve`, with its contract, a token, metrics and the inference log; by a raw ASGI function that has
none of them; and by the peers; each with one worker process, one server at a time, in an order that
reverses every round. Requests of one row and of 1,000 rows come over connections that stay open, 1,
8 and 32 of them. Then, of ours alone: what a challenger in shadow adds to the slowest answers, and
what a change of the champion does under load. Peers live in environments of their own, made on
first use with ``uv``.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import measure
from over_http.load import Load, load
from over_http.servers import Running, Server, ServerError, check, install, running, servers
from over_http.world import FAMILY, World, make_world

from mlops_assets.serving.routing.traffic import FILE as TRAFFIC
from mlops_assets.serving.routing.traffic import TrafficStore

_CALLS = 20
_ONE = "one row"
_BARE = "bare, one thread"
_NOTICED_S = 1.5  # after that, every worker has noticed another deployment or switch
_SHADOW_CONNECTIONS = 8
_BUSY_SHARE = 0.5  # of what is answered at most: the load at which a queue is short


@dataclass(frozen=True)
class Point:
    """What one server did with one kind of request at one concurrency, in one round."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    load_busy: float
    failed: int
    requests: int


@dataclass
class Found:
    """Everything that is known of one server."""

    points: dict[tuple[str, int], list[Point]] = field(default_factory=dict)
    cold_starts: list[float] = field(default_factory=list)
    resident_mb: float = 0.0
    stopped: str = ""

    def median(self, kind: str, connections: int, what: str) -> float | None:
        """Return the median over the rounds of a number of `Point`."""
        points = self.points.get((kind, connections))
        return statistics.median(getattr(each, what) for each in points) if points else None


def one_load(
    found: Running, requests: Sequence[bytes], connections: int, seconds: float, **more: Any
) -> tuple[Load, Point]:
    """Load a server once."""
    cpu = found.cpu_seconds()
    done = load(found.port, requests, connections=connections, seconds=seconds, **more)
    used = found.cpu_seconds() - cpu
    point = Point(
        per_second=done.per_second,
        p50_ms=1000 * done.quantile(0.5),
        p99_ms=1000 * done.quantile(0.99),
        cpu_ms=1000 * used / max(1, done.requests),
        load_busy=done.busy,
        failed=done.failed,
        requests=done.requests,
    )
    return done, point


# Ours beside the others


def measure_server(
    server: Server, world: World, options: argparse.Namespace, found: Found, first: bool
) -> None:
    """Start a server, ask it everything, and stop it."""
    with running(server, world) as served:
        found.cold_starts.append(served.cold_start_s)
        if first:
            check(served, world)
        time.sleep(1.0)  # whatever it still does after its first answer
        for kind, form, frames in kinds(server, world):
            requests = [server.request(served.port, form, frame) for frame in frames]
            load(served.port, requests, connections=8, seconds=options.warmup)
            for connections in options.concurrency:
                done, point = one_load(served, requests, connections, options.seconds)
                if done.failed:
                    raise ServerError(
                        f"{done.failed} of {done.requests} requests failed: {done.first_failure}"
                    )
                found.points.setdefault((kind, connections), []).append(point)
        found.resident_mb = max(found.resident_mb, served.resident_mb())


def kinds(server: Server, world: World) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Yield what a server is asked: what the table calls it, its form, and the rows."""
    first = next(iter(server.forms))
    yield _ONE, first, world.ones
    for form in server.forms:
        yield f"{world.batch:,} rows, {form}", form, world.batches


def compare(
    every: Sequence[Server], world: World, options: argparse.Namespace
) -> tuple[dict[str, Found], list[measure.Comparison]]:
    """Measure all servers and the bare call, round by round."""
    found = {server.name: Found() for server in every}
    calls = []
    for round_number in range(options.runs):
        calls.append(bare_calls(world))
        for server in every if round_number % 2 == 0 else reversed(every):
            current = found[server.name]
            if current.stopped:
                continue
            try:
                install(server)
                measure_server(server, world, options, current, round_number == 0)
            except (ServerError, OSError, RuntimeError) as error:
                if server is every[0]:
                    raise
                current.stopped = str(error)
                print(f"{server.name} goes no further: {error}", flush=True)
    return found, calls


def table(found: Mapping[str, Found], kind: str, options: argparse.Namespace) -> str:
    """Return one kind of request as a Markdown table; ratios are requests a second, ours over."""
    ours = next(iter(found.values()))
    heads = [f"c={c} req/s | p50 ms | p99 ms | ours ÷" for c in options.concurrency]
    lines = [
        f"\n### {kind}\n",
        f"| | {' | '.join(heads)} | CPU ms a request |",
        f"|---|{'---:|' * (4 * len(options.concurrency) + 1)}",
    ]
    for name, each in found.items():
        cells = []
        for connections in options.concurrency:
            speed = each.median(kind, connections, "per_second")
            best = ours.median(kind, connections, "per_second")
            cells += [
                _number(speed, 0 if speed and speed > 100 else 1),
                _number(each.median(kind, connections, "p50_ms"), 2),
                _number(each.median(kind, connections, "p99_ms"), 2),
                _number(best / speed if best and speed else None, 2),
            ]
        cells.append(_number(each.median(kind, max(options.concurrency), "cpu_ms"), 3))
        label = f"{name} ({each.stopped[:80]})" if each.stopped else name
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


# The bare call, for the ratios of large requests


def bare_calls(world: World) -> measure.Comparison:
    """Time CatBoost's own call for a frame of a batch, with one thread and with all."""
    from catboost import CatBoostClassifier

    native = CatBoostClassifier().load_model(str(world.bare / "model.cb"))
    frame = world.batches[0]

    def call(threads: int) -> measure.Sample:
        begun = time.perf_counter()
        for _ in range(_CALLS):
            native.predict_proba(frame, thread_count=threads)
        return measure.Sample((time.perf_counter() - begun) / _CALLS)

    return measure.side_by_side(
        {_BARE: partial(call, 1), "bare, all threads": partial(call, -1)}, runs=3, base=_BARE
    )


def bare_table(calls: Sequence[measure.Comparison], world: World) -> str:
    """Return the bare calls of all rounds as a Markdown table."""
    lines = [
        f"\n### The bare call, {world.batch:,} rows\n",
        "| | median ms | least | most | rows/s |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in calls[0].outcomes:
        ms = [1000 * sample.seconds for each in calls for sample in each.outcomes[name].samples]
        cells = [statistics.median(ms), min(ms), max(ms)]
        speed = 1000 * world.batch / cells[0]
        lines.append(f"| {name} | {' | '.join(_number(c, 2) for c in cells)} | {speed:,.0f} |")
    return "\n".join(lines)


def batch_ratios(
    found: Found, calls: Sequence[measure.Comparison], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return our rows a second over those of the bare calls of the same round, the median round.

    For each form, at the concurrency at which it is highest.
    """
    every = dict.fromkeys(kind for kind, _ in found.points if kind != _ONE)
    return {
        kind: {
            name: max(
                statistics.median(
                    point.per_second * (each.outcomes[name].median or 0.0)
                    for point, each in zip(found.points[kind, c], calls, strict=True)
                )
                for c in options.concurrency
            )
            for name in calls[0].outcomes
        }
        for kind in every
    }


# Ours alone


@contextmanager
def ours_running(server: Server, world: World) -> Iterator[tuple[Running, list[bytes]]]:
    """Start ours; yield it with its requests of one row, after a warm-up."""
    with running(server, world) as served:
        requests = [server.request(served.port, "JSON rows", frame) for frame in world.ones]
        time.sleep(5.0)  # the follower opens the registry, once
        load(served.port, requests, connections=_SHADOW_CONNECTIONS, seconds=1.0)
        yield served, requests


Situation = Callable[[], None]


def alternate(
    served: Running,
    requests: Sequence[bytes],
    situations: Mapping[str, Situation],
    options: argparse.Namespace,
    during: Mapping[str, Callable[[float], Any]] | None = None,
) -> dict[str, dict[str, list[Point]]]:
    """Load ours in several situations, in turn: at full speed, and at half of it."""
    full, _ = one_load(served, requests, _SHADOW_CONNECTIONS, options.seconds)
    rate = _BUSY_SHARE * full.per_second
    loads: dict[str, dict[str, Any]] = {
        "as fast as it answers": {},
        f"{rate:,.0f} requests a second": {"rate": rate},
    }
    found: dict[str, dict[str, list[Point]]] = {
        each: {name: [] for name in situations} for each in loads
    }
    for round_number in range(options.runs + 1):
        names = list(situations) if round_number % 2 == 0 else list(reversed(situations))
        for name in names:
            situations[name]()
            time.sleep(_NOTICED_S)
            for each, more in loads.items():
                if during is None or name not in during:
                    _, point = one_load(
                        served, requests, _SHADOW_CONNECTIONS, options.steady_seconds, **more
                    )
                else:
                    with during[name](options.steady_seconds):
                        _, point = one_load(
                            served, requests, _SHADOW_CONNECTIONS, options.steady_seconds, **more
                        )
                found[each][name].append(point)
    return found


def shadow(server: Server, world: World, options: argparse.Namespace) -> Any:
    """Measure without a challenger, with one that is only there, and with one in shadow."""
    switches = TrafficStore(world.home / "serving" / TRAFFIC)

    def situation(challenger: int | None, on: bool) -> None:
        world.deploy(1, challenger)
        switches.switch_shadow(FAMILY, on=on, by="benchmark")

    with ours_running(server, world) as (served, requests):
        return alternate(
            served,
            requests,
            {
                "no challenger": lambda: situation(None, False),
                "a challenger, not asked": lambda: situation(2, False),
                "a challenger in shadow": lambda: situation(2, True),
            },
            options,
        )


def reload(server: Server, world: World, options: argparse.Namespace) -> Any:
    """Measure while the champion stays, and while it changes every second."""
    import threading

    @contextmanager
    def changing(_seconds: float) -> Iterator[None]:
        over = threading.Event()

        def change() -> None:
            champion = 1
            while not over.wait(1.0):
                champion = 3 - champion
                world.deploy(champion)

        changer = threading.Thread(target=change)
        changer.start()
        try:
            yield
        finally:
            over.set()
            changer.join()

    with ours_running(server, world) as (served, requests):
        return alternate(
            served,
            requests,
            {
                "the champion stays": lambda: world.deploy(1),
                "the champion changes every second": lambda: None,
            },
            options,
            {"the champion changes every second": changing},
        )


def situations_table(title: str, found: Mapping[str, Mapping[str, Sequence[Point]]]) -> str:
    """Return what `alternate` found as a Markdown table; ratios refer to the first situation."""
    lines = [
        f"\n### {title}\n",
        "| load | | req/s | p50 ms | p99 ms | p99 ÷ | failed | of |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each, situations in found.items():
        first = next(iter(situations.values()))
        normal = statistics.median(point.p99_ms for point in first)
        for name, points in situations.items():
            p99 = statistics.median(point.p99_ms for point in points)
            cells = [
                _number(statistics.median(point.per_second for point in points), 0),
                _number(statistics.median(point.p50_ms for point in points), 2),
                _number(p99, 2),
                _number(p99 / normal, 2),
                str(sum(point.failed for point in points)),
                f"{sum(point.requests for point in points):,}",
            ]
            lines.append(f"| {each} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cold_starts(found: Mapping[str, Found]) -> str:
    """Return seconds to the first answer, and memory, as a Markdown table."""
    lines = [
        "\n### Cold start\n",
        "| | seconds to the first answer, median | least | most | MB, all processes |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, each in found.items():
        if each.cold_starts:
            seconds = each.cold_starts
            cells = [statistics.median(seconds), min(seconds), max(seconds)]
            lines.append(
                f"| {name} | {' | '.join(_number(c, 2) for c in cells)} | {each.resident_mb:,.0f} |"
            )
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def run(options: argparse.Namespace, folder: Path) -> None:
    print(measure.machine("catboost", "mlflow", "uvicorn", "uvloop", "msgspec", "numpy"))
    print(f"load average {' '.join(f'{each:.1f}' for each in os.getloadavg())}", flush=True)
    world = make_world(folder, trees=options.trees, batch=options.batch)
    every = servers(world)
    if options.without_peers:
        every = every[:3]
    if options.only:
        every = [every[0], *(s for s in every[1:] if any(o in s.name for o in options.only))]
    found, calls = compare(every, world, options)
    ours = found[every[0].name]
    for kind in dict.fromkeys(kind for kind, _ in ours.points):
        asked = {
            name: each
            for name, each in found.items()
            if any(k == kind for k, _ in each.points) or (each.stopped and kind == _ONE)
        }
        print(table(asked, kind, options), flush=True)
    busiest = max(p.load_busy for each in found.values() for ps in each.points.values() for p in ps)
    print(f"\nThe load's own process was busy for at most {busiest:.0%} of the time.")
    ratios = batch_ratios(ours, calls, options)
    print(bare_table(calls, world))
    for kind, by_call in ratios.items():
        for name, ratio in by_call.items():
            print(f"{kind}: {ratio:.2f} x the rows a second of {name}")
    print(cold_starts(found), flush=True)
    alone: dict[str, Any] = {}
    if not options.without_situations:
        alone = {
            "A challenger in shadow": shadow(every[0], world, options),
            "A change of the champion": reload(every[0], world, options),
        }
        for title, points in alone.items():
            print(situations_table(title, points), flush=True)
    print(f"\nload average {' '.join(f'{each:.1f}' for each in os.getloadavg())}")
    measure.write_json(
        options.json,
        {f"bare call, round {place}": each for place, each in enumerate(calls)},
        machine=measure.machine("catboost", "mlflow", "uvicorn"),
        batch_ratios=ratios,
        load_busy=busiest,
        servers={
            name: {
                "stopped": each.stopped,
                "cold_starts_s": each.cold_starts,
                "resident_mb": each.resident_mb,
                "points": {
                    f"{kind}, c={connections}": [asdict(point) for point in points]
                    for (kind, connections), points in each.points.items()
                },
            }
            for name, each in found.items()
        },
        alone=json.loads(json.dumps(alone, default=asdict)),
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--seconds", type=float, default=1.2, help="of each load")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before the first load")
    parser.add_argument("--steady-seconds", type=float, default=3.0, help="of each load of ours")
    parser.add_argument("--trees", type=int, default=500, help="of the model")
    parser.add_argument("--batch", type=int, default=1000, help="rows of a large request")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 8, 32], help="connections at once"
    )
    parser.add_argument("--without-peers", action="store_true", help="only ours and the floor")
    parser.add_argument("--only", nargs="+", default=[], help="ours and servers with such a name")
    parser.add_argument(
        "--without-situations", action="store_true", help="leave shadow and reload out"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, 50 trees: a try")
    parser.add_argument("--json", type=Path, default=None, help="also write the results here")
    options = parser.parse_args(argv)
    if options.quick:
        options.runs, options.trees = 1, min(options.trees, 50)
        options.seconds, options.warmup, options.steady_seconds = 0.5, 0.2, 1.0
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        run(options, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
