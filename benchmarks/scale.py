"""Ten times the rows through the platform: ingest, dbt, features and the training set.

The plain packages do the work, in a process of its own for each size, without Dagster:
`ingest` for the five raw tables, `build` for dbt's models, `build_training_set` for the join. So
each phase is what one Dagster step calls, and what grows with the data is all there. Libraries are
imported before the clock starts, so that fixed costs do not flatter the larger size. The peak is
the resident memory of the whole process, file pages included.

    python benchmarks/scale.py
    python benchmarks/scale.py --copies 3 --memory-limit 1GiB

How the rows are multiplied: the year 2013 is copied into the following years, each copy moved by
the whole weeks between the days on which clocks go forward. From there to the day on which they go
back it is always 34 weeks, so that in every copy every local time has the offset from UTC that it
had in 2013: contracts, and dbt's tests that compare instants with clock readings, hold as they are.
Days, entities and the number of flights a day stay as dense as they are, and a rolling window over
hours or days sees as many rows as in one year; the tables become longer, as they do in practice. A
copy is 364 days long, because the next one starts then; in two of ten years a week is free between
them. Carriers, airports and aircraft stay the same.
"""

import argparse
import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import measure
from bare import declarations
from measure import Candidate, Sample, peak_mb

FIRST_DAY = date(2013, 1, 1)
COPY_DAYS = 364
TARGET_RATIO, TARGET_MB = 12, 4096
ALL = "**together**"
MULTIPLIED = {"raw/flights", "raw/weather"}


def clocks_go_forward(year: int) -> date:
    """The second Sunday of March."""
    eighth = date(year, 3, 8)
    return eighth + timedelta(days=(6 - eighth.weekday()) % 7)


def shifts(copies: int) -> list[int]:
    """Days by which each copy is moved; all are whole weeks."""
    start = clocks_go_forward(FIRST_DAY.year)
    return [(clocks_go_forward(FIRST_DAY.year + n) - start).days for n in range(copies)]


@dataclass(frozen=True)
class Job:
    """One size, picklable for a fresh process."""

    folder: Path
    copies: int
    memory_limit: str
    threads: int

    @property
    def data(self) -> Path:
        return self.folder / f"data-{self.copies}"

    @property
    def report(self) -> Path:
        return self.folder / f"report-{self.copies}.json"

    @property
    def last_day(self) -> date:
        return FIRST_DAY + timedelta(days=shifts(self.copies)[-1] + COPY_DAYS - 1)

    @property
    def window(self) -> tuple[date, date]:
        return FIRST_DAY, self.last_day + timedelta(days=1)

    def file(self, table: declarations.RawTable) -> Path:
        return self.data / Path(table.source.path).name


@dataclass
class Phases:
    """Seconds and peak memory of each phase, and what came out; told as they end."""

    copies: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    lake_bytes: int = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        forget_peak()
        start, cpu_start = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.cpu_s[name] = time.process_time() - cpu_start
        self.peak_mb[name] = peak_mb()
        print(
            f"{self.copies} ×: {name} {self.seconds[name]:.1f} s, CPU {self.cpu_s[name]:.1f} s, "
            f"{self.peak_mb[name]:,.0f} MB",
            flush=True,
        )

    def cost(self, name: str) -> tuple[float, float]:
        """Seconds by the clock and of CPU, of one phase or of all."""
        if name != ALL:
            return self.seconds[name], self.cpu_s[name]
        return sum(self.seconds.values()), sum(self.cpu_s.values())

    def peak(self, name: str) -> float:
        """Peak memory in MiB, of one phase or of all."""
        return max(self.peak_mb.values()) if name == ALL else self.peak_mb[name]


def forget_peak() -> None:
    """Start a new peak, where the kernel can; elsewhere a phase shows the largest so far."""
    control = Path("/proc/self/clear_refs")
    if control.exists():
        control.write_text("5")


# Data


def make_data(job: Job) -> None:
    """Write the raw files, multiplied, in the format of the originals."""
    job.data.mkdir(parents=True)
    for table in declarations.raw_tables():
        source = declarations.source_path(table)
        if str(table.table) not in MULTIPLIED:
            shutil.copy(source, job.file(table))
            continue
        plain = job.folder / "plain.csv"
        with tempfile.TemporaryDirectory(dir=job.folder) as unpacked:
            if source.suffix == ".zip":
                with zipfile.ZipFile(source) as archive:
                    source = Path(archive.extract(archive.namelist()[0], unpacked))
            multiply(source, plain, job)
        if job.file(table).suffix == ".zip":
            with zipfile.ZipFile(
                job.file(table), "w", zipfile.ZIP_DEFLATED, compresslevel=6
            ) as archive:
                archive.write(plain, job.file(table).stem)
            plain.unlink()
        else:
            plain.rename(job.file(table))


def multiply(source: Path, target: Path, job: Job) -> None:
    """Write the rows of the first 364 days once for each copy; only their time differs."""
    import duckdb

    moved = ", ".join(f"({n}, {days})" for n, days in enumerate(shifts(job.copies)))
    with duckdb.connect(config={"threads": job.threads, "memory_limit": "1GiB"}) as con:
        con.execute(
            f"""
            COPY (
                WITH dated AS (
                    SELECT *, make_date(year::INT, month::INT, day::INT) AS on_day
                    FROM read_csv('{source}', all_varchar = true)
                )
                SELECT dated.* EXCLUDE (on_day) REPLACE (
                    year(on_day + days)::VARCHAR AS year,
                    month(on_day + days)::VARCHAR AS month,
                    day(on_day + days)::VARCHAR AS day,
                    strftime(
                        time_hour[:19]::TIMESTAMP + to_days(days), '%Y-%m-%dT%H:%M:%SZ'
                    ) AS time_hour
                )
                FROM (VALUES {moved}) AS copies (copy, days), dated
                WHERE on_day < DATE '{FIRST_DAY}' + {COPY_DAYS}
                ORDER BY copy
            ) TO '{target}' (HEADER)
            """
        )


# Work


def import_libraries() -> None:
    """Import what the phases import when they first need it."""
    for module in (
        "dbt.adapters.duckdb",
        "dbt.cli.main",
        "mlops_assets.defs.flights.contracts",
        "mlops_assets.training.training_set",
        "mlops_assets.transform.build",
    ):
        import_module(module)


def go_through(job: Job, on_event: Callable[[str], None] | None = None) -> Sample:
    """Do all phases in a lake of their own and write down what they cost."""
    from mlops_assets.features import FeatureRegistry
    from mlops_assets.ingestion import ingest
    from mlops_assets.lake import Lake, Window
    from mlops_assets.settings import DuckDBLimits
    from mlops_assets.training.training_set import build_training_set
    from mlops_assets.transform.build import build
    from mlops_assets.transform.project import project_at

    limits = DuckDBLimits(
        memory_limit=job.memory_limit,
        threads=job.threads,
        scratch=job.folder / f"scratch-{job.copies}",
    )
    root = job.folder / f"lake-{job.copies}"
    lake = Lake(str(root), limits=limits)
    project = project_at(declarations.PROJECT / "dbt_project")
    views = FeatureRegistry.from_manifest(project.manifest)
    features = sorted(m.name for m in project.models.values() if m.table.schema == "features")
    others = sorted(m.name for m in project.models.values() if m.table.schema != "features")
    family = family_of(job)  # read with the models, before anything takes long
    phases = Phases(job.copies)

    with phases.phase("ingest"):
        for table in declarations.raw_tables():
            done = ingest(
                lake,
                table.source.model_copy(update={"package": None, "path": str(job.file(table))}),
                table.contract,
                table.table,
                mode=Window(table.window_column, *job.window)
                if table.window_column
                else "snapshot",
                root=declarations.PROJECT,
                derived=table.derived,
            )
            phases.rows[str(table.table)] = done.publication.rows
    for phase, names in (("dbt", others), ("features", features)):
        with phases.phase(phase):
            built = build(lake, project, names, window=job.window, on_event=on_event)
        if not built.ok:
            raise RuntimeError(built.failure_report())
        for outcome in built.models:
            phases.slowest[outcome.model.name] = round(outcome.seconds, 2)
            phases.rows[str(outcome.model.table)] = outcome.rows or 0
    with phases.phase("training set"):
        made = build_training_set(lake, family, views)
    phases.rows[str(made.version.table)] = made.audit.rows
    phases.lake_bytes = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    job.report.write_text(json.dumps(asdict(phases)))
    return Sample(sum(phases.seconds.values()), max(phases.peak_mb.values()))


def family_of(job: Job) -> Any:
    """The family with its split moved into the last copy, so that all rows are in a part."""
    split = declarations.model_family().split
    days = timedelta(days=shifts(job.copies)[-1])
    moved = {
        name: getattr(split, name) + days for name in ("train_end", "validation_end", "test_end")
    }
    return declarations.model_family(split={**split.model_dump(), **moved})


# The table


def breakdown(job: Job, larger: Phases, once: Phases) -> str:
    lines = [
        f"\n| phase | once s | CPU s | MB | {job.copies} × s | CPU s | MB | ratio | CPU ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in (*once.seconds, ALL):
        wall, cpu = zip(once.cost(name), larger.cost(name), strict=True)
        cells = [
            f"{seconds:.2f} | {busy:.2f} | {side.peak(name):,.0f}"
            for seconds, busy, side in zip(wall, cpu, (once, larger), strict=True)
        ]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {wall[1] / wall[0]:.1f} | {cpu[1] / cpu[0]:.1f} |"
        )
    lines.append("\nModels that took longest (seconds of dbt's statement, without tests):")
    for name, seconds in sorted(larger.slowest.items(), key=lambda item: -item[1])[:8]:
        earlier = once.slowest[name]
        lines.append(
            f"- {name}: {earlier:.2f} → {seconds:.2f} ({seconds / max(earlier, 0.01):.1f}×)"
        )
    return "\n".join(lines)


def read(job: Job) -> Phases:
    return Phases(**json.loads(job.report.read_text()))


def main() -> None:
    from mlops_assets.settings import load_settings

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=1, help="timed runs of each size")
    parser.add_argument("--json", type=Path, default=None, help="also write the results here")
    parser.add_argument("--copies", type=int, default=10, help="how many times the rows")
    parser.add_argument("--memory-limit", default="2GiB", help="of each DuckDB session")
    options = parser.parse_args()
    print(measure.machine("duckdb", "deltalake", "dbt-core", "dbt-duckdb"), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        once, larger = (
            Job(Path(folder), copies, options.memory_limit, load_settings().threads)
            for copies in (1, options.copies)
        )
        for job in (once, larger):
            make_data(job)
        compared = measure.side_by_side(
            {
                "once": Candidate(partial(fresh, once), import_libraries),
                f"{options.copies} times": Candidate(partial(fresh, larger), import_libraries),
            },
            runs=options.runs,
            warmups=0,
            base="once",
            isolated=True,
        )
        found, found_once = read(larger), read(once)
        title = (
            f"{found.rows['raw/flights']:,} flights against {found_once.rows['raw/flights']:,}, "
            f"DuckDB's memory limit {options.memory_limit}"
        )
        print(compared.table(title))
        print(breakdown(larger, found, found_once))
        print(
            f"\nRatio {compared.ratio(f'{options.copies} times'):.1f} (target at most "
            f"{TARGET_RATIO} for ten times), peak {max(found.peak_mb.values()):,.0f} MB (target at "
            f"most {TARGET_MB:,}), lake {found.lake_bytes:,} bytes against "
            f"{found_once.lake_bytes:,}, {sum(found.rows.values()):,} rows in all tables"
        )
        measure.write_json(
            options.json, {"scale": compared}, once=asdict(found_once), larger=asdict(found)
        )


def fresh(job: Job, _imported: None) -> Sample:
    """Begin with an empty lake, however often it ran before."""
    shutil.rmtree(job.folder / f"lake-{job.copies}", ignore_errors=True)
    return go_through(job)


if __name__ == "__main__":
    main()
