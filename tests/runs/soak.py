"""Load on the real model server while everything goes wrong that should not matter.

Thirty-two callers ask without a pause. Meanwhile the champion changes, workers are killed and the
log's disk fills once. Afterwards every answer is held against the table of predictions and against
what the version that gave it says of the same row.

``python -m tests.runs.soak --requests 200000`` does it at length; ``test_soak`` briefly.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from mlops_assets.lake import Lake, TableName
from mlops_assets.registry import ModelReference, Registry, promotion
from mlops_assets.serving.inference_log.shipping import ship
from mlops_assets.settings import Settings, load_settings
from mlops_assets.training.dataset import feature_frame
from tests.servers import free_port, serving
from tests.serving.world import World, world_in

FAMILY = "late_flights"
CALLERS = 32
_ANSWER = re.compile(rb'"model":"late_flights/(\d+)".*"id":"([^"]+)","probability":([^,}]+)')
_PAUSE_AFTER_REFUSAL_S = 0.05
_DISK_FULL_S = 2.0


@dataclass(frozen=True)
class Troubles:
    """How often what goes wrong.

    Attributes
    ----------
    requests
        Answers to wait for, at least: the callers go on until every trouble has been seen.
    switches, kills
        Changes of champion, and workers ended by SIGKILL, spread evenly over them. A change has
        been seen when the new champion answers.
    """

    requests: int
    switches: int = 5
    kills: int = 10


@dataclass
class Outcome:
    """What the callers saw.

    Attributes
    ----------
    answered
        Prediction id to the row that was asked, the version that answered, and its answer.
    statuses
        How many answers had which status.
    torn
        Requests whose connection ended before an answer: what a killed worker was busy with.
    newest
        The version that gave the last answer.
    over
        Whether the callers may stop asking.
    seconds
        From the first request to the last answer.
    """

    answered: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    torn: int = 0
    newest: int = 0
    over: bool = False
    seconds: float = 0.0


async def _ask(port: int, bodies: Sequence[bytes], outcome: Outcome) -> None:
    """Ask one request after the other on one connection, and open another when it ends."""
    chance = random.Random(os.urandom(8))  # noqa: S311 - which row is asked
    connection = None
    while not outcome.over:
        row = chance.randrange(len(bodies))
        try:
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", port)
            status, body = await _exchange(*connection, bodies[row])
        except (OSError, asyncio.IncompleteReadError):
            outcome.torn += connection is not None
            connection = None
            await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)
            continue
        outcome.statuses[status] += 1
        if status != 200:
            await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)
            continue
        found = _ANSWER.search(body)
        assert found, body
        version, name, answer = found.groups()
        assert name.decode() not in outcome.answered, "one id was given twice"
        outcome.newest = int(version)
        outcome.answered[name.decode()] = row, outcome.newest, float(answer)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, bytes]:
    writer.write(
        b"POST /models/%s/predict HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % (FAMILY.encode(), len(body))
        + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length, head
    return int(head[9:12]), await reader.readexactly(int(length[1]))


def workers(server: psutil.Process) -> list[psutil.Process]:
    """Return the server's worker processes that are alive."""
    found = []
    for child in server.children():
        with suppress(psutil.Error):  # it died a moment ago
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


async def _after(answers: int, outcome: Outcome) -> None:
    """Wait for so many answers."""
    while len(outcome.answered) < answers:  # noqa: ASYNC110 - of many tasks
        await asyncio.sleep(0.01)


async def _spread(
    times: int, total: int, outcome: Outcome, act: Callable[[int], Awaitable[None]]
) -> None:
    """Do something so often, evenly spread over the answers."""
    for number in range(1, times + 1):
        await _after(total * number // (times + 1), outcome)
        await act(number)


async def _load(
    port: int,
    server: psutil.Process,
    registry: Registry,
    bodies: Sequence[bytes],
    troubles: Troubles,
) -> Outcome:
    outcome = Outcome()

    async def switch(number: int) -> None:
        wanted = ModelReference(FAMILY, 1 + number % 2)
        await asyncio.to_thread(
            promotion.promote_by_hand, registry, wanted, actor="soak", reason=f"switch {number}"
        )
        while outcome.newest != wanted.version:  # noqa: ASYNC110 - of many tasks
            await asyncio.sleep(0.01)

    async def kill(_: int) -> None:
        while not (found := workers(server)):  # noqa: ASYNC110 - none is up again yet
            await asyncio.sleep(0.05)
        random.choice(found).kill()  # noqa: S311 - any of them

    async def fill_the_disk() -> None:
        await _after(troubles.requests * 2 // 5, outcome)  # between two kills
        found = workers(server)
        for worker in found:
            worker.rlimit(psutil.RLIMIT_FSIZE, (0, psutil.RLIM_INFINITY))
        await asyncio.sleep(_DISK_FULL_S)
        for worker in found:
            if worker.is_running():
                worker.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))

    begun = time.monotonic()
    total = troubles.requests
    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLERS):
            callers.create_task(_ask(port, bodies, outcome))
        async with asyncio.TaskGroup() as going_wrong:
            going_wrong.create_task(_spread(troubles.switches, total, outcome, switch))
            going_wrong.create_task(_spread(troubles.kills, total, outcome, kill))
            going_wrong.create_task(fill_the_disk())
        await _after(total, outcome)
        outcome.over = True
    outcome.seconds = time.monotonic() - begun
    return outcome


def soak(world: World, home: Path, troubles: Troubles) -> tuple[Outcome, Settings]:
    """Serve a copy of a world under load and trouble, then ship what was logged.

    Parameters
    ----------
    world
        Has two versions of the family that is asked.
    home
        Folder for the copy; it must not exist yet.
    troubles
        What goes wrong.
    """
    shutil.copytree(world.home, home)
    settings = load_settings(home=home, threads=2)
    lake = Lake.from_settings(settings)
    registry = Registry.from_settings(settings, lake)
    rows = world.features(FAMILY, 500)
    bodies = [json.dumps({"rows": [row]}).encode() for row in rows.to_pylist()]
    port = free_port()
    command = [sys.executable, "-m", "mlops_assets.cli.main", "serve", "--port", str(port)]
    environment = {**os.environ, "MLOPS_HOME": str(home), "MLOPS_THREADS": "2"}
    with serving(
        [*command, "--workers", "2"],
        environment,
        ready=f"http://127.0.0.1:{port}/health",
        log=home / "server.log",
    ):
        [server] = [
            process
            for process in psutil.Process().children()
            if str(port) in process.cmdline() and "serve" in process.cmdline()
        ]
        outcome = asyncio.run(_load(port, server, registry, bodies, troubles))
    ship(lake, settings.serve_log_folder)
    return outcome, settings


def logged(settings: Settings) -> pa.Table:
    """Return id, version and answer of every prediction in the lake."""
    table = TableName("inference", FAMILY)
    with Lake.from_settings(settings).connect(tables=[table]) as con:
        return con.sql(f"SELECT prediction_id, version, answer FROM {table.sql}").to_arrow_table()


def differences(world: World, outcome: Outcome, table: pa.Table) -> list[str]:
    """Say everything that is not as it should be."""
    ids = Counter(table["prediction_id"].to_pylist())
    found = [f"{name} is logged {times} times" for name, times in ids.items() if times != 1]
    found += [f"{name} was answered and is not logged" for name in outcome.answered.keys() - ids]
    rows = world.features(FAMILY, 500)
    for version in {version for _, version, _ in outcome.answered.values()}:
        model = world.registry.load(f"{FAMILY}/{version}")
        right = model.predict(feature_frame(rows, model.schema))
        found += [
            f"{name}: {FAMILY}/{version} answered {answer}, where it says {right[row]}"
            for name, (row, by, answer) in outcome.answered.items()
            if by == version and not np.isclose(answer, right[row], rtol=0, atol=1e-9)
        ]
    return found


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=20_000, help="answers to wait for")
    parser.add_argument("--switches", type=int, default=5, help="changes of the champion")
    parser.add_argument("--kills", type=int, default=10, help="workers that are killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlops-soak-") as folder:
        world = world_in(Path(folder))
        troubles = Troubles(options.requests, options.switches, options.kills)
        outcome, settings = soak(world, Path(folder) / "soak", troubles)
        table = logged(settings)
        wrong = differences(world, outcome, table)
        versions = Counter(version for _, version, _ in outcome.answered.values())
    answered = len(outcome.answered)
    print(f"{answered:,} answered in {outcome.seconds:.0f} s, {answered / outcome.seconds:,.0f}/s")
    print(f"statuses {dict(outcome.statuses)}, torn by a kill {outcome.torn}")
    print(f"by version {dict(versions)}; {len(table):,} rows logged, of them answered {answered:,}")
    for line in wrong[:20]:
        print(line)
    print("every answer is logged exactly once" if not wrong else f"{len(wrong)} are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
