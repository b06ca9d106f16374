"""Point-in-time join: ours over the lake, a bare ASOF JOIN, Polars and Feast, in one run.

``python benchmarks/point_in_time.py`` makes two Delta tables, labels and features, of ``--rows``
rows each, and writes the joined table to Parquet each way. It does so twice. First a feature row
is known 15 to 105 minutes after its event, so some become known in another order than they
happened, and one in fifty is corrected later; ours answers with the latest event known, the others
with the row that became known last. Then without such rows, as the test ``knowledge_ordered``
guarantees of a view; then all give the same answer. Feast lives in an environment of its own, which
this script makes with ``uv``; it is measured at growing sizes, to the full one or until it stops.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import measure

FEAST = "0.67.0"
FEATURES = ("f1", "f2", "f3")
TTL = timedelta(days=30)
FEAST_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
GIB = 1 << 30
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Workload:
    """Where the tables of one run are, and what every candidate may use."""

    folder: Path
    memory_gib: int
    threads: int
    label_files: tuple[str, ...] = ()
    feature_files: tuple[str, ...] = ()
    ordered: bool = False

    def output(self, name: str) -> str:
        return str(self.folder / f"{name}.parquet")


# Data


def labels_sql(rows: int) -> str:
    """One row per prediction, spread over a year and one entity per hundred rows."""
    return f"""
        SELECT
            i AS id,
            (hash(i, 1) % {entities(rows)})::INTEGER AS entity,
            TIMESTAMPTZ '2024-01-01' + to_seconds((hash(i, 2) % 31_536_000)::BIGINT)
                AS prediction_time
        FROM range({rows}) AS t (i)
    """


def features_sql(rows: int, *, ordered: bool) -> str:
    """About a hundred events an entity; one row in fifty corrects one, 3 to 51 hours later.

    ``ordered`` leaves out the rows that never are the latest known of their entity.
    """
    window = "(PARTITION BY entity ORDER BY available_at, event_time)"
    only_latest = f"""
        QUALIFY event_time >= max(event_time) OVER {window}
            AND available_at IS DISTINCT FROM lead(available_at) OVER {window}
    """
    corrections = rows // 50
    return f"""
        WITH event AS (
            SELECT DISTINCT ON (entity, event_time) *
            FROM (
                SELECT
                    i,
                    (hash(i, 3) % {entities(rows)})::INTEGER AS entity,
                    TIMESTAMPTZ '2024-01-01' + to_seconds((hash(i, 4) % 31_536_000)::BIGINT)
                        AS event_time
                FROM range({rows - corrections}) AS t (i)
            )
        ),
        version AS (
            SELECT
                *,
                event_time + to_seconds(900 + (hash(i, 5) % 5_400)::BIGINT) AS available_at,
                0 AS version
            FROM event
            UNION ALL
            SELECT
                *,
                event_time + to_seconds(10_000 + (hash(i, 6) % 172_800)::BIGINT),
                1
            FROM event
            WHERE i < {corrections}
        )
        SELECT
            entity,
            event_time,
            available_at,
            (hash(i, version, 7) % 1_000) / 10.0 AS f1,
            (hash(i, version, 8) % 1_000) / 10.0 AS f2,
            (hash(i, version, 9) % 1_000)::INTEGER AS f3
        FROM version
        {only_latest if ordered else ""}
    """


def entities(rows: int) -> int:
    return max(1, rows // 100)


def make_lake(workload: Workload, rows: int) -> Workload:
    """Write both tables as Delta and return the workload with their Parquet files."""
    from dataclasses import replace

    import duckdb

    lake, labels, features = _lake(workload)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        lake.overwrite(labels, con.sql(labels_sql(rows)).to_arrow_reader(1 << 17))
        lake.overwrite(
            features, con.sql(features_sql(rows, ordered=workload.ordered)).to_arrow_reader(1 << 17)
        )
    return replace(
        workload,
        label_files=_files(lake.describe(labels).uri),
        feature_files=_files(lake.describe(features).uri),
    )


def _files(uri: str) -> tuple[str, ...]:
    return tuple(sorted(str(path) for path in Path(uri).rglob("*.parquet")))


def _lake(workload: Workload) -> tuple[Any, Any, Any]:
    from mlops_assets.lake import Lake, TableName
    from mlops_assets.settings import DuckDBLimits

    limits = DuckDBLimits(
        memory_limit=f"{workload.memory_gib}GiB",
        threads=workload.threads,
        scratch=workload.folder / "scratch",
    )
    lake = Lake(str(workload.folder / "lake"), limits=limits)
    return lake, TableName("marts", "labels"), TableName("features", "numbers")


# Candidates. Imports happen in the untimed preparation; opening the tables is timed.


def prepare_ours(workload: Workload) -> Any:
    from mlops_assets.features import Feature, FeatureView, Spine

    lake, labels, features = _lake(workload)
    view = FeatureView(
        name="numbers",
        table=features,
        entity=("entity",),
        event_time="event_time",
        available_at="available_at",
        ttl=TTL,
        owner="benchmark",
        description="Three numbers of an entity.",
        features=tuple(Feature(name, "DOUBLE", "A number.") for name in FEATURES),
        knowledge_ordered=workload.ordered,
    )
    with lake.connect():  # imports what is first imported here
        pass
    return lake, Spine(f"{labels.schema}.{labels.name}", ("entity",)), [view.select()]


def ours(workload: Workload, prepared: Any) -> None:
    from mlops_assets.features import point_in_time_join

    lake, spine, selections = prepared
    with lake.connect() as con:
        point_in_time_join(con, spine, selections).write_parquet(workload.output("ours"))


def prepare_duckdb(_workload: Workload) -> Any:
    import duckdb

    return duckdb


def bare(workload: Workload, duckdb: Any) -> None:
    with duckdb.connect(
        config={
            "threads": workload.threads,
            "memory_limit": f"{workload.memory_gib}GiB",
            "temp_directory": str(workload.folder / "spill"),
        }
    ) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(
            f"""
            COPY (
                SELECT label.*, {", ".join(FEATURES)}, feature.available_at
                FROM read_parquet({list(workload.label_files)}) AS label
                ASOF LEFT JOIN read_parquet({list(workload.feature_files)}) AS feature
                    ON label.entity = feature.entity
                    AND label.prediction_time >= feature.available_at
            ) TO '{workload.output("bare")}' (FORMAT parquet)
            """
        )


def prepare_polars(workload: Workload) -> Any:
    os.environ["POLARS_MAX_THREADS"] = str(workload.threads)
    import polars as pl

    return pl


def polars_join(workload: Workload, polars: Any) -> None:
    labels = polars.scan_parquet(list(workload.label_files)).sort("prediction_time")
    features = (
        polars.scan_parquet(list(workload.feature_files))
        .select("entity", "available_at", *FEATURES)
        .sort("available_at")
    )
    labels.join_asof(
        features,
        left_on="prediction_time",
        right_on="available_at",
        by="entity",
        strategy="backward",
        coalesce=False,
    ).sink_parquet(workload.output("polars"))


# Feast, run by this same file in an environment of its own


def feast_python() -> Path:
    """Return the interpreter of Feast's environment, made on the first call."""
    environment = _HERE / ".peers" / "feast"
    python = environment / "bin" / "python"
    stamp = environment / "feast-version"
    if not stamp.exists() or stamp.read_text() != FEAST:
        uv = shutil.which(
            "uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
        if uv is None:
            raise SystemExit("uv is not installed; it makes Feast's environment: pip install uv")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", version, environment], check=True
        )
        subprocess.run(
            [
                *(uv, "pip", "install", "--quiet", "--compile-bytecode"),
                *("--python", python, f"feast[duckdb]=={FEAST}"),
            ],
            check=True,
        )
        stamp.write_text(FEAST)
    return python


def feast_worker(folder: Path, labels: int, memory_gib: int) -> None:
    """Join the first ``labels`` labels with Feast's duckdb offline store, and report the time."""
    os.environ["FEAST_USAGE"] = "False"
    os.environ["DO_NOT_TRACK"] = "1"
    # Above this, it fails with an error of its own instead of taking the machine down.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_gib * GIB, memory_gib * GIB))
    import pandas as pd
    from feast import (  # type: ignore[import-not-found]  # in the peer's environment
        Entity,
        FeatureStore,
        FeatureView,
        Field,
        FileSource,
        RepoConfig,
        ValueType,
    )
    from feast.types import Float64, Int32  # type: ignore[import-not-found]  # in the peer's environment

    (folder / "feast").mkdir(exist_ok=True)
    store = FeatureStore(
        config=RepoConfig(
            project="benchmark",
            provider="local",
            registry=str(folder / "feast" / "registry.db"),
            offline_store={"type": "duckdb"},
            online_store={"type": "sqlite", "path": str(folder / "feast" / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT32)
    view = FeatureView(
        name="numbers",
        entities=[entity],
        ttl=TTL,
        schema=[
            Field(name="f1", dtype=Float64),
            Field(name="f2", dtype=Float64),
            Field(name="f3", dtype=Int32),
        ],
        # Feast knows no knowledge time, so its event timestamp is when a row became known.
        source=FileSource(path=str(folder / "features.parquet"), timestamp_field="available_at"),
        online=False,
    )
    store.apply([entity, view])
    spine = pd.read_parquet(folder / "labels.parquet", columns=["entity", "prediction_time"])
    spine = spine.head(labels).rename(columns={"prediction_time": "event_timestamp"})

    def join() -> None:
        job = store.get_historical_features(
            entity_df=spine, features=[f"numbers:{name}" for name in FEATURES]
        )
        job.to_df().to_parquet(folder / "feast.parquet")

    measure.report(join)


def feast_comparison(
    workload: Workload, rows: int, runs: int, timeout_s: float
) -> dict[str, measure.Comparison]:
    """Compare Feast with ours at growing numbers of labels, until it stops."""
    import duckdb

    python = feast_python()
    comparisons = {}
    for labels in [size for size in FEAST_SIZES if size < rows] + [rows]:
        folder = workload.folder / f"feast-{labels}"
        small = make_lake(Workload(folder, workload.memory_gib, workload.threads), labels)
        for name, files in (("labels", small.label_files), ("features", small.feature_files)):
            duckdb.read_parquet(list(files)).write_parquet(str(folder / f"{name}.parquet"))
        name = f"Feast {FEAST}, duckdb store"
        comparison = measure.side_by_side(
            {
                "ours": measure.Candidate(partial(ours, small), partial(prepare_ours, small)),
                name: measure.external(
                    *(python, Path(__file__), "--feast-worker", folder, "--labels", str(labels)),
                    *("--memory-gib", str(3 * workload.memory_gib)),
                    timeout_s=timeout_s,
                ),
            },
            runs=runs,
            base="ours",
            warmups=0,
            isolated=True,
            tolerate=(name,),
        )
        title = f"Against Feast, {labels:,} labels x {labels:,} feature rows"
        print(comparison.table(title), flush=True)
        comparisons[title] = comparison
        shutil.rmtree(folder)
        if stopped := comparison.outcomes[name].stopped:
            print(f"\nFeast goes no further: {stopped}")
            break
    return comparisons


# The run


def differing_rows(workload: Workload) -> dict[str, int]:
    """How many predictions get another answer from a bare ASOF JOIN, and how many are stale."""
    import duckdb

    with duckdb.connect() as con:
        total, other, stale = con.sql(
            f"""
            SELECT
                count(*),
                count(*) FILTER (
                    numbers__available_at IS DISTINCT FROM bare.available_at
                    AND numbers__available_at IS NOT NULL
                ),
                count(*) FILTER (
                    numbers__available_at IS NULL AND bare.available_at IS NOT NULL
                )
            FROM '{workload.output("ours")}' AS ours
            JOIN '{workload.output("bare")}' AS bare USING (id)
            """
        ).fetchall()[0]
    return {"rows": total, "an older event hid a newer": other, "beyond the ttl": stale}


def compare(workload: Workload, rows: int, runs: int) -> dict[str, Any]:
    """Compare ours with bare DuckDB and Polars on one pair of tables, and print it."""
    workload = make_lake(workload, rows)
    comparison = measure.side_by_side(
        {
            "ours": measure.Candidate(partial(ours, workload), partial(prepare_ours, workload)),
            "bare": measure.Candidate(partial(bare, workload), partial(prepare_duckdb, workload)),
            "Polars join_asof": measure.Candidate(
                partial(polars_join, workload), partial(prepare_polars, workload)
            ),
        },
        runs=runs,
        isolated=True,
        tolerate=("Polars join_asof",),
    )
    kind = "ordered by knowledge" if workload.ordered else "with late and corrected rows"
    title = f"Point-in-time join, {rows:,} labels x {rows:,} feature rows, {kind}"
    print(comparison.table(title), flush=True)
    differing = differing_rows(workload)
    labels, features = (
        sum(Path(file).stat().st_size for file in files) / 1e6
        for files in (workload.label_files, workload.feature_files)
    )
    print(
        f"\nLabels {labels:,.0f} MB, features {features:,.0f} MB. "
        f"Of {differing['rows']:,} predictions, a bare ASOF JOIN answers "
        f"{differing['an older event hid a newer']:,} with a late row of an older event and "
        f"{differing['beyond the ttl']:,} with a value older than the ttl."
    )
    return {"title": title, "comparison": comparison, "differing": differing}


def run(arguments: Any, folder: Path) -> None:
    threads = len(os.sched_getaffinity(0))
    machine = measure.machine("duckdb", "deltalake", "polars", "pyarrow")
    print(f"{machine}; {threads} threads and {arguments.memory_gib} GiB for each DuckDB")
    results = [
        compare(
            Workload(folder / str(ordered), arguments.memory_gib, threads, ordered=ordered),
            arguments.rows,
            arguments.runs,
        )
        for ordered in (False, True)
    ]
    comparisons = {result["title"]: result["comparison"] for result in results}
    if not arguments.no_feast:
        comparisons |= feast_comparison(
            Workload(folder, arguments.memory_gib, threads),
            arguments.rows,
            min(arguments.runs, 3),
            arguments.feast_timeout,
        )
    measure.write_json(
        arguments.json,
        comparisons,
        machine=machine,
        feast=FEAST,
        differing={result["title"]: result["differing"] for result in results},
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__, rows=5_000_000)
    parser.add_argument("--memory-gib", type=int, default=4, help="limit of each DuckDB session")
    parser.add_argument("--no-feast", action="store_true", help="leave Feast out")
    parser.add_argument("--feast-timeout", type=float, default=120.0, help="seconds for one join")
    parser.add_argument("--feast-worker", type=Path, help="internal: run in Feast's environment")
    parser.add_argument("--labels", type=int, help="internal: label rows of the Feast worker")
    arguments = parser.parse_args(argv)
    if arguments.feast_worker is not None:
        feast_worker(arguments.feast_worker, arguments.labels, arguments.memory_gib)
        return
    with tempfile.TemporaryDirectory(prefix="point-in-time-") as folder:
        run(arguments, Path(folder))


if __name__ == "__main__":
    main()
