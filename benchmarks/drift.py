"""Drift of 12 columns, current rows against as many reference rows: ours, NannyML and Evidently.

Every candidate reads the same two Parquet files, in which six columns are continuous (one of them
skewed), four whole numbers and two texts, and finds the drift of every column. Ours makes the
profile of the reference and compares the current rows with it, in one go; a second line has the
profile already, as on every day but the first. Each runs in a process of its own, so that its peak
memory is its own too. Imports are not timed; for the DataFrame peers neither is loading the files,
though their memory counts. Peers are measured at growing sizes, to the full one or until they stop.

    python benchmarks/drift.py
    python benchmarks/drift.py --rows 1_000_000 --runs 1

The peers need other versions of our libraries; their environments are made under
``benchmarks/.peers`` on first use. NannyML is told to send no telemetry.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from measure import (
    Candidate,
    Comparison,
    DidNotFinishError,
    Sample,
    arguments,
    external,
    machine,
    report,
    side_by_side,
    write_json,
)

HERE = Path(__file__).parent
PEERS = {
    "NannyML": ("nannyml", ["nannyml==0.13.1", "pyarrow", "statsmodels"]),
    "Evidently": ("evidently", ["evidently==0.7.23", "pandas<3", "pyarrow"]),
}
SIZES = (100_000, 1_000_000)  # before the full one
MEMORY_LIMIT = "300MB"  # of DuckDB itself; what it needs beyond is spilled
PEER_MEMORY_MB = 12_000

DATA = """
    SELECT
        sqrt(-2 * ln(u(i, 1))) * cos(6.283185307 * u(i, 2)) + {shift} AS normal_1,
        sqrt(-2 * ln(u(i, 3))) * cos(6.283185307 * u(i, 4)) AS normal_2,
        u(i, 5) * 100 AS uniform_1,
        CASE WHEN i % 20 <> 0 THEN u(i, 6) END AS uniform_2,
        exp(2 * sqrt(-2 * ln(u(i, 7))) * cos(6.283185307 * u(i, 8))) AS amount,
        -ln(u(i, 9)) * 15 AS waiting,
        (hash(i, 10) % 24)::INTEGER AS hour,
        (hash(i, 11) % 300)::INTEGER AS minutes,
        (hash(i, 12) % 2)::INTEGER AS flag,
        (floor(-ln(u(i, 13)) * 40) - 20)::INTEGER AS delay,
        ['UA', 'AA', 'B6', 'DL', 'EV'][(hash(i, 14) % 5)::INTEGER + 1] AS carrier,
        'A' || (hash(i, 15) % 100) AS airport
    FROM range({first}, {last}) AS t (i)
"""


def make_data(folder: Path, rows: int) -> None:
    import duckdb

    with duckdb.connect() as con:
        con.execute("CREATE MACRO u(i, n) AS ((hash(i, n) % 1000000007)::DOUBLE + 1) / 1000000008")
        for name, first, shift in (("reference", 0, 0.0), ("current", rows, 0.6)):
            data = DATA.format(first=first, last=first + rows, shift=shift)
            con.execute(f"COPY ({data}) TO '{folder / name}.parquet'")


def session(folder: Path) -> Any:
    import scipy.stats  # noqa: F401 - imports are not timed

    from mlops_assets.lake import private_session
    from mlops_assets.monitoring import drift, profile  # noqa: F401 - imports are not timed
    from mlops_assets.settings import DuckDBLimits

    threads = len(os.sched_getaffinity(0))
    opened = private_session(
        DuckDBLimits(memory_limit=MEMORY_LIMIT, threads=threads, scratch=folder / "scratch")
    )
    con = opened.__enter__()
    for name in ("reference", "current"):
        con.execute(f"CREATE VIEW {name} AS FROM read_parquet('{folder / name}.parquet')")
    return opened, con


def columns(con: Any) -> list[str]:
    return [name for name, *_ in con.execute("DESCRIBE FROM reference").fetchall()]


def ours(prepared: Any) -> None:
    from mlops_assets.monitoring.drift import find_drift
    from mlops_assets.monitoring.profile import profile_reference

    opened, con = prepared
    profile = profile_reference(con, "reference", columns(con))
    check(find_drift(con, "current", profile).drifted)
    opened.__exit__(None, None, None)


def with_profile(folder: Path) -> Any:
    from mlops_assets.monitoring.profile import profile_reference

    opened, con = session(folder)
    return opened, con, profile_reference(con, "reference", columns(con))


def ours_again(prepared: Any) -> None:
    from mlops_assets.monitoring.drift import find_drift

    opened, con, profile = prepared
    check(find_drift(con, "current", profile).drifted)
    opened.__exit__(None, None, None)


def check(drifted: tuple[str, ...]) -> None:
    assert drifted == ("normal_1",), drifted


# Peers, each run by its own interpreter


def load(folder: Path) -> Any:
    import pandas as pd

    return tuple(pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "current"))


def nannyml(folder: Path) -> None:
    os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
    import nannyml as nml  # type: ignore[import-not-found]  # in the peer's environment

    reference, current = load(folder)

    def run() -> None:
        calculator = nml.UnivariateDriftCalculator(
            column_names=list(reference.columns),
            treat_as_categorical=["flag"],
            continuous_methods=["kolmogorov_smirnov", "jensen_shannon"],
            categorical_methods=["chi2", "jensen_shannon"],
            chunk_number=1,
        )
        found = calculator.fit(reference).calculate(current).to_df()
        assert len(found)

    report(run)


def evidently(folder: Path) -> None:
    from evidently import Report  # type: ignore[import-not-found]  # in the peer's environment
    from evidently.presets import (  # type: ignore[import-not-found]  # in the peer's environment
        DataDriftPreset,
    )

    reference, current = load(folder)

    def run() -> None:
        found = Report([DataDriftPreset()]).run(current, reference)
        assert found.dict()["metrics"]

    report(run)


PEER_RUNS = {"NannyML": nannyml, "Evidently": evidently}


def environment(peer: str) -> str:
    """Make a peer's environment; return why it could not be made, empty where it could."""
    folder, packages = PEERS[peer]
    python = HERE / ".peers" / folder / "bin" / "python"
    if (HERE / ".peers" / folder / "complete").exists():
        return ""
    uv: list[str | Path] = [sys.executable, "-m", "uv"]
    for command in (
        [*uv, "venv", "--clear", "--python", "3.11", HERE / ".peers" / folder],
        [*uv, "pip", "install", "--compile-bytecode", "--python", python, *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"no environment: {done.stderr.strip().splitlines()[-1]}"
    (HERE / ".peers" / folder / "complete").touch()
    return ""


def not_there(reason: str) -> Sample:
    raise DidNotFinishError(reason)


def peer_candidate(peer: str, folder: Path, timeout_s: int) -> Candidate:
    if missing := environment(peer):
        return Candidate(partial(not_there, missing))
    python = HERE / ".peers" / PEERS[peer][0] / "bin" / "python"
    return external(python, Path(__file__), "--peer", peer, "--folder", folder, timeout_s=timeout_s)


def compare(rows: int, runs: int, peers: list[str], timeout_s: int) -> Comparison:
    with tempfile.TemporaryDirectory(prefix="drift_") as name:
        folder = Path(name)
        make_data(folder, rows)
        found = {
            "mlops-assets": Candidate(ours, partial(session, folder)),
            "mlops-assets, profile kept": Candidate(ours_again, partial(with_profile, folder)),
            **{peer: peer_candidate(peer, folder, timeout_s) for peer in peers},
        }
        return side_by_side(
            found,
            runs=runs,
            warmups=0 if peers else 1,
            base="mlops-assets",
            isolated=True,
            timeout_s=timeout_s,
            memory_limit_mb=PEER_MEMORY_MB,
            tolerate=peers,
        )


def main() -> None:
    parser = arguments(__doc__, rows=10_000_000, runs=3)
    parser.add_argument("--without-peers", action="store_true", help="only ours")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that a peer gets")
    parser.add_argument("--peer", default=None, help="used by this script itself")
    parser.add_argument("--folder", type=Path, default=None, help="used by this script itself")
    options = parser.parse_args()
    if options.peer is not None:
        PEER_RUNS[options.peer](options.folder)
        return
    print(machine("duckdb", "numpy"))
    peers = [] if options.without_peers else list(PEERS)
    found: dict[str, Comparison] = {}
    for rows in (*(size for size in SIZES if size < options.rows), options.rows):
        comparison = compare(rows, options.runs, peers, options.timeout)
        print(comparison.table(f"Drift of 12 columns, {rows:,} against {rows:,} rows"), flush=True)
        found[f"drift_{rows}"] = comparison
        peers = [peer for peer in peers if not comparison.outcomes[peer].stopped]
    write_json(options.json, found, rows=options.rows)


if __name__ == "__main__":
    main()
