"""A contract of ten rules over 10 million rows: the audit against a hand-written scan and peers.

Every candidate judges the same Parquet file by the same rules (null and non-finite values
included), finds nothing wrong, and runs in a process of its own, so that its peak memory is its
own too. Imports, and for the DataFrame peers loading the file, are not timed; their memory counts.

    python benchmarks/contract_validation.py
    python benchmarks/contract_validation.py --rows 1_000_000 --runs 3 --without-peers

Great Expectations lives in an environment of its own, which the first run makes under
``benchmarks/.peers``.
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
GREAT_EXPECTATIONS = HERE / ".peers" / "great_expectations"
MEMORY_LIMIT = "512MB"  # of DuckDB itself; what it needs beyond is spilled
TIMEOUT_S = 600
PEER_MEMORY_MB = 12_000

DATA = """
    SELECT i AS flight_id,
        ['EWR', 'JFK', 'LGA'][(hash(i) % 3)::INT + 1] AS origin,
        ['ATL', 'ORD', 'LAX', 'BOS', 'MCO'][(hash(i * 3) % 5)::INT + 1] AS dest,
        ['UA', 'AA', 'B6', 'DL'][(hash(i * 5) % 4)::INT + 1] AS carrier,
        'N' || (hash(i * 7) % 9999) AS tailnum,
        DATE '2013-01-01' + (i % 365)::INT AS day,
        (hash(i * 11) % 24)::BIGINT AS hour,
        (hash(i * 13) % 4900)::BIGINT + 80 AS distance,
        CASE WHEN i % 50 <> 0 THEN (hash(i * 17) % 4000)::DOUBLE / 10 - 30 END AS dep_delay,
        CASE WHEN i % 50 <> 0 THEN (hash(i * 19) % 4000)::DOUBLE / 10 + 20 END AS air_time
    FROM range({rows}) AS flights(i)
"""

BY_HAND = """
    SELECT count(*),
        count_if(flight_id IS NULL),
        count_if(origin IS NULL), count_if(origin NOT IN ('EWR', 'JFK', 'LGA')),
        count_if(dest IS NULL), count_if(NOT regexp_matches(dest, '^[A-Z]{3}$')),
        count_if(carrier IS NULL), count_if(length(carrier) <> 2),
        count_if(tailnum IS NULL), count_if(NOT starts_with(tailnum, 'N')),
        count_if(day IS NULL), count_if(day NOT BETWEEN '2013-01-01' AND '2013-12-31'),
        count_if(hour IS NULL), count_if(hour NOT BETWEEN 0 AND 23),
        count_if(distance IS NULL), count_if(distance NOT BETWEEN 0 AND 6000),
        count_if(isnan(dep_delay) OR isinf(dep_delay)), count_if(dep_delay < -120),
        count_if(isnan(air_time) OR isinf(air_time)), count_if(air_time <= 0)
    FROM flights
"""
BY_HAND_KEY = """
    SELECT count(*) FROM (SELECT flight_id FROM flights GROUP BY flight_id HAVING count(*) > 1)
"""

RULES: dict[str, dict[str, Any]] = {
    "flight_id": {},
    "origin": {"isin": ["EWR", "JFK", "LGA"]},
    "dest": {"str_matches": "^[A-Z]{3}$"},
    "carrier": {"str_length": {"exact_value": 2}},
    "tailnum": {"str_startswith": "N"},
    "day": {"in_range": ("2013-01-01", "2013-12-31")},
    "hour": {"in_range": (0, 23)},
    "distance": {"in_range": (0, 6000)},
    "dep_delay": {"ge": -120},
    "air_time": {"gt": 0},
}
NULLABLE = {"dep_delay", "air_time"}


def make_data(path: Path, rows: int) -> None:
    import duckdb

    with duckdb.connect() as con:
        con.execute(f"COPY ({DATA.format(rows=rows)}) TO '{path}'")


def model(base: Any, module: Any, types: dict[str, Any]) -> Any:
    """The ten rules as a Pandera model of whichever backend ``base`` belongs to."""
    import datetime as dt

    fields: dict[str, Any] = {}
    for name, rules in RULES.items():
        given = dict(rules)
        if name == "day":
            given["in_range"] = tuple(dt.date.fromisoformat(day) for day in rules["in_range"])
        fields[name] = module.Field(nullable=name in NULLABLE, description=name, **given)
    config = type("Config", (), {"unique": ["flight_id"], "strict": True})
    body = {"__doc__": "Flights.", "__annotations__": types, "Config": config, **fields}
    return type("Flights", (base,), body)


def types_of(integer: Any, text: Any, day: Any, number: Any) -> dict[str, Any]:
    texts, numbers = {"origin", "dest", "carrier", "tailnum"}, {"dep_delay", "air_time"}
    return {
        name: text if name in texts else number if name in numbers
        else day if name == "day" else integer
        for name in RULES
    }  # fmt: skip


def session(path: Path) -> Any:
    import duckdb

    con = duckdb.connect()
    con.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    con.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
    con.execute(f"SET temp_directory = '{path.parent / 'spill'}'")
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"CREATE VIEW flights AS FROM read_parquet('{path}')")
    return con


def by_hand(con: Any) -> None:
    (found,) = con.execute(BY_HAND).fetchall()
    assert not any(found[1:]), found
    assert con.execute(BY_HAND_KEY).fetchall() == [(0,)]


def contract_and_session(path: Path) -> Any:
    import datetime as dt

    import pandera.ibis as pa

    from mlops_assets.quality import Contract, audit  # noqa: F401 - imports are not timed

    return session(path), model(Contract, pa, types_of(int, str, dt.date, float))


def ours(prepared: Any) -> None:
    from mlops_assets.quality import audit

    con, contract = prepared
    found = audit(con, "flights", contract)
    assert found.ok, found.explain()


def pandera_ibis(prepared: Any) -> None:
    import ibis

    con, contract = prepared
    contract.to_schema().validate(ibis.duckdb.from_connection(con).table("flights"), lazy=True)


def load_pandas(path: Path) -> Any:
    import datetime as dt

    import pandas as pd
    import pandera.pandas as pa

    types = types_of(int, str, object, float)
    flights = pd.read_parquet(path)
    flights["day"] = flights["day"].astype("datetime64[s]").dt.date
    assert isinstance(flights["day"].iloc[0], dt.date)
    return flights, model(pa.DataFrameModel, pa, types)


def load_polars(path: Path) -> Any:
    import pandera.polars as pa
    import polars as pl

    types = types_of(pl.Int64, pl.String, pl.Date, pl.Float64)
    return pl.read_parquet(path), model(pa.DataFrameModel, pa, types)


def validate(prepared: Any) -> None:
    flights, contract = prepared
    contract.to_schema().validate(flights, lazy=True)


def great_expectations(path: Path) -> None:
    """Runs in the peer's own environment."""
    from datetime import datetime

    import great_expectations as gx  # type: ignore[import-not-found]  # in the peer's environment
    import great_expectations.expectations as gxe  # type: ignore[import-not-found]  # in the peer's environment
    import pandas as pd

    flights = pd.read_parquet(path)
    flights["day"] = pd.to_datetime(flights["day"])
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("pandas")
    asset = source.add_dataframe_asset("flights")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": flights})

    def bounds(column: str, low: Any, high: Any, **more: Any) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, **more
        )

    rules = [
        gxe.ExpectColumnValuesToBeUnique(column="flight_id"),
        gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=["EWR", "JFK", "LGA"]),
        gxe.ExpectColumnValuesToMatchRegex(column="dest", regex="^[A-Z]{3}$"),
        gxe.ExpectColumnValueLengthsToEqual(column="carrier", value=2),
        gxe.ExpectColumnValuesToMatchRegex(column="tailnum", regex="^N"),
        bounds("day", datetime(2013, 1, 1), datetime(2013, 12, 31)),  # noqa: DTZ001 - as the column
        bounds("hour", 0, 23),
        bounds("distance", 0, 6000),
        bounds("dep_delay", -120, None),
        bounds("air_time", 0, None, strict_min=True),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=column)
            for column in RULES
            if column not in NULLABLE
        ),
    ]
    suite = gx.ExpectationSuite(name="flights", expectations=rules)

    def run() -> None:
        result = batch.validate(suite)
        assert result.success, [r.expectation_config for r in result.results if not r.success]

    report(run)


def peer_environment() -> str:
    """Make the peer's environment; return why it could not be made, empty where it could."""
    python = GREAT_EXPECTATIONS / "bin" / "python"
    if python.exists():
        return ""
    uv: list[str | Path] = [sys.executable, "-m", "uv"]
    packages = ["great_expectations==1.24.1", "pandas", "pyarrow"]
    for command in (
        [*uv, "venv", "--python", "3.11", GREAT_EXPECTATIONS],
        [*uv, "pip", "install", "--compile-bytecode", "--python", python, *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"no environment: {done.stderr.strip().splitlines()[-1]}"
    return ""


def not_there(reason: str) -> Sample:
    raise DidNotFinishError(reason)


def candidates(path: Path, *, peers: bool) -> dict[str, Candidate]:
    found = {
        "bare": Candidate(by_hand, partial(session, path)),
        "mlops-assets audit": Candidate(ours, partial(contract_and_session, path)),
    }
    if not peers:
        return found
    missing = peer_environment()
    python = GREAT_EXPECTATIONS / "bin" / "python"
    return found | {
        "pandera.ibis": Candidate(pandera_ibis, partial(contract_and_session, path)),
        "pandera on Polars": Candidate(validate, partial(load_polars, path)),
        "pandera on pandas": Candidate(validate, partial(load_pandas, path)),
        "Great Expectations on pandas": Candidate(partial(not_there, missing))
        if missing
        else external(python, Path(__file__), "--peer", path, timeout_s=TIMEOUT_S),
    }


def main() -> None:
    parser = arguments(__doc__, rows=10_000_000, runs=3)
    parser.add_argument("--without-peers", action="store_true", help="only the hand-written scan")
    parser.add_argument("--peer", type=Path, default=None, help="used by this script itself")
    options = parser.parse_args()
    if options.peer is not None:
        great_expectations(options.peer)
        return
    with tempfile.TemporaryDirectory(prefix="contract_validation_") as folder:
        path = Path(folder) / "flights.parquet"
        make_data(path, options.rows)
        found = candidates(path, peers=not options.without_peers)
        comparison = side_by_side(
            found,
            runs=options.runs,
            isolated=True,
            timeout_s=TIMEOUT_S,
            memory_limit_mb=PEER_MEMORY_MB,
            tolerate=[name for name in found if name not in {"bare", "mlops-assets audit"}],
        )
    print(machine("duckdb", "pandera", "ibis-framework", "polars", "pandas"))
    print(comparison.table(f"Contract of ten rules, {options.rows:,} rows"))
    write_json(options.json, {"contract_validation": comparison}, rows=options.rows)


if __name__ == "__main__":
    main()
