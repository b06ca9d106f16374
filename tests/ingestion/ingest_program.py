"""A program for the tests that need a process of their own: kills, and limits of the system.

Every step runs in a forked child, so that the libraries are imported once and no thread of theirs
exists when a child begins.

    ingest_program.py kill FOLDER MODE SEED TRIALS   kills ingestions; prints what it found
    ingest_program.py full FOLDER scratch|lake       ingests with no space; prints the error
"""

import importlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandera.ibis as pa_ibis

from mlops_assets.ingestion import FileSource, ingest
from mlops_assets.lake import Lake, TableName
from mlops_assets.quality import AuditPolicy, Contract, quarantine_name
from mlops_assets.settings import DuckDBLimits

TABLE = TableName.parse("raw/numbers")
GOOD_ROWS = 5_000
BAD_ROWS = 5


class Numbers(Contract):
    """One row a number."""

    id: int = pa_ibis.Field(ge=0, description="Number")
    batch: int = pa_ibis.Field(description="Which file it came with")
    digest: str = pa_ibis.Field(description="A text that does not compress")

    class Config:
        """The key."""

        unique = ["id"]  # noqa: RUF012 - the way Pandera declares keys


def lake_in(folder: Path) -> Lake:
    limits = DuckDBLimits(memory_limit="512MiB", threads=2, scratch=folder / "scratch")
    return Lake(str(folder / "lake"), limits=limits)


def run(folder: Path, mode: str) -> None:
    ingest(
        lake_in(folder),
        FileSource(path="numbers-*.csv"),
        Numbers,
        TABLE,
        mode=mode,
        root=folder,
        policy=AuditPolicy(max_refused_share=0.5),
        derived={"digest": "sha256(id::VARCHAR)"},
    )


def write_batch(folder: Path, mode: str, batch: int) -> None:
    first = batch * GOOD_ROWS if mode == "append" else 0
    lines = ["id,batch", *(f"{first + n},{batch}" for n in range(GOOD_ROWS))]
    lines += [f"bad-{n},{batch}" for n in range(BAD_ROWS)]
    name = f"numbers-{batch:03}.csv" if mode == "append" else "numbers-all.csv"
    (folder / name).write_text("\n".join(lines) + "\n")


def found(folder: Path) -> dict[str, Any]:
    """Return what the table and its quarantine hold: rows by batch, and distinct ids."""
    lake = lake_in(folder)
    tables = [name for name in (TABLE, quarantine_name(TABLE)) if lake.exists(name)]
    with lake.connect(tables=tables) as con:
        batches: dict[int, int] = {}
        ids = 0
        if TABLE in tables:
            query = f"SELECT batch, count(*) FROM {TABLE.sql} GROUP BY ALL ORDER BY ALL"
            batches = dict(con.execute(query).fetchall())
            [(ids,)] = con.execute(f"SELECT count(DISTINCT id) FROM {TABLE.sql}").fetchall()
        quarantined = []
        if len(tables) == 2:
            query = f"""
                SELECT source_hash, count(*), count(DISTINCT source_row)
                FROM {quarantine_name(TABLE).sql} GROUP BY ALL
            """
            quarantined = [list(row[1:]) for row in con.execute(query).fetchall()]
    return {"batches": batches, "ids": ids, "quarantined": quarantined}


def in_child(step: Callable[[], Any]) -> int:
    """Start a step in a forked child and return its process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            step()
            status = 0
        except Exception:  # noqa: BLE001 - whatever it is, it belongs into the parent's report
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return pid


def finish(step: Callable[[], Any]) -> float:
    """Run a step in a child to its end; return the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(in_child(step), 0)
    if status:
        raise SystemExit(f"a step that should succeed failed with status {status}")
    return time.monotonic() - began


def tell(fact: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def report(folder: Path, moment: str, batch: int) -> None:
    tell({"moment": moment, "batch": batch, **found(folder)})


def running(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def commits(table: TableName, folder: Path) -> int:
    log = Path(lake_in(folder).uri(table)) / "_delta_log"
    return len(list(log.glob("*.json")))


def kill(folder: Path, mode: str, seed: int, trials: int) -> None:
    random_ = random.Random(seed)  # noqa: S311 - reproducible moments
    write_batch(folder, mode, 0)
    duration = finish(lambda: run(folder, mode))
    finish(lambda: report(folder, "finished", 0))
    for batch in range(1, trials + 1):
        write_batch(folder, mode, batch)
        before = commits(quarantine_name(TABLE), folder)
        pid = in_child(lambda: run(folder, mode))
        if batch % 2:
            time.sleep(random_.uniform(0, duration))
        else:  # between the quarantine and the table, where a kill would do most harm
            while commits(quarantine_name(TABLE), folder) == before and running(pid):
                time.sleep(0.001)
            time.sleep(random_.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        finish(lambda batch=batch: report(folder, "killed", batch))
        finish(lambda: run(folder, mode))
        finish(lambda batch=batch: report(folder, "finished", batch))


def full(folder: Path, where: str) -> None:
    """Ingest with a limit on file size, which a write meets as it meets the end of a disk."""
    write_batch(folder, "snapshot", 0)
    finish(lambda: run(folder, "snapshot"))
    if where == "scratch":
        text = (folder / "numbers-all.csv").read_text()
        (folder / "numbers-all.csv").write_text(
            text + "".join(f"{10**9 + n},1\n" for n in range(200_000))
        )
    else:  # a small copy, whose digests are large in the lake
        (folder / "numbers-all.csv").write_text(
            "id,batch\n" + "".join(f"{n},1\n" for n in range(100_000))
        )
    limit = 2 * 2**20

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            run(folder, "snapshot")
        except Exception as error:  # noqa: BLE001 - the test judges its kind and its text
            tell({"error": type(error).__name__, "text": str(error)})

    finish(limited)
    finish(lambda: report(folder, "full", 1))
    finish(lambda: run(folder, "snapshot"))
    finish(lambda: report(folder, "finished", 1))


if __name__ == "__main__":
    # Otherwise each child would import them again, and most kills would hit an import.
    for module in ("hypothesis", "ibis.backends.duckdb", "pandera.strategies.base_strategies"):
        importlib.import_module(module)
    command, place, *arguments = sys.argv[1:]
    if command == "kill":
        kill(Path(place), arguments[0], int(arguments[1]), int(arguments[2]))
    else:
        full(Path(place), arguments[0])
