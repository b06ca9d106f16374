"""A training set and a CatBoost model of it against a bare script with the same parameters.

Needs a home in which the demo has run (``--home``, or the deployment's own). Its input tables are
copied first, so the home stays as it is. Ours is what the steps of a run call: `build_training_set`
with its audit and its Delta table, `load_parts`, the CatBoost estimator's `fit`, and predictions
for validation and test. The other side is ``bare/training.py``: DuckDB over the Parquet files of
the same table versions, pandas, `CatBoostClassifier` with the same parameters, seed, threads and
evaluation set; it joins in one statement, and view by view. Each run is a process of its own, timed
from its first import; dbt's manifest is there before. The fit has few iterations, because a longer
one, which is the same on both sides, would hide the rest.

In the end the rows, features and predictions of all are compared, and the script fails where they
differ.

    python benchmarks/training.py --home .mlops
    python benchmarks/training.py --iterations 1000 --threads 1
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import measure
from bare import training as bare
from measure import Sample, peak_mb

TARGET_RATIO = 1.15
OURS = "mlops-assets"
SAME_ON_BOTH = ("fit", "predictions")
TOTAL = "**together**"


@dataclass(frozen=True)
class Job:
    """What both sides are given, picklable for a fresh process.

    Attributes
    ----------
    parameters
        CatBoost's, all that either side gives beside seed and threads.
    """

    folder: Path
    memory_limit: str
    threads: int
    seed: int
    parameters: Mapping[str, Any]

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    def report(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def proof(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


@dataclass
class Phases:
    """Seconds by the clock and of CPU of each phase of the last run."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start, cpu_start = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.cpu_s[name] = time.process_time() - cpu_start

    def cost(self, *names: str) -> tuple[float, float]:
        """Seconds by the clock and of CPU of some phases, of all where none is named."""
        chosen = [name for name in names or self.seconds if name in self.seconds]
        return sum(self.seconds[name] for name in chosen), sum(self.cpu_s[name] for name in chosen)


# What both sides start from


def make_job(home: Path, folder: Path, threads: int, iterations: int) -> Job:
    """Copy the inputs from the home and write down what the bare side is told."""
    from bare import declarations

    from mlops_assets.features import FeatureRegistry
    from mlops_assets.lake import Lake, TableNotFoundError
    from mlops_assets.settings import load_settings
    from mlops_assets.training.training_set import input_tables
    from mlops_assets.transform.project import project_at

    settings = load_settings(home=home, threads=threads)
    job = Job(
        folder,
        settings.memory_limit,
        threads,
        settings.seed,
        {
            "iterations": iterations,
            "early_stopping_rounds": iterations,  # so that no side stops before
            "learning_rate": 0.1,
            "depth": 7,
            "loss_function": "Logloss",
        },
    )
    family = declarations.model_family()
    project = project_at(declarations.PROJECT / "dbt_project")
    views = FeatureRegistry.from_manifest(project.manifest)
    lake = Lake.from_settings(settings)
    try:
        for table in input_tables(family, views):
            lake.version(table)
            shutil.copytree(lake.uri(table), job.lake / table.schema / table.name)
    except TableNotFoundError as error:
        raise SystemExit(f"{home} is no home in which the demo has run: {error}") from error
    job.plan.write_text(json.dumps(plan_of(job, family, views)))
    return job


def plan_of(job: Job, family: Any, views: Any) -> dict[str, Any]:
    """Say where the files are and what is joined how, as a person would know it."""
    from deltalake import DeltaTable
    from demo import labelled_sql

    from mlops_assets.training.training_set import input_tables, select_features

    schemas = {
        table: DeltaTable(job.lake / table.schema / table.name)
        for table in input_tables(family, views)
    }
    selections = select_features(family, views)
    texts = [
        name
        for selection in selections
        for name in selection.features
        for held in schemas[selection.view.table].schema().fields
        if held.name == name and "string" in str(held.type)
    ]
    return {
        "memory_limit": job.memory_limit,
        "threads": job.threads,
        "temp_directory": str(job.folder / "spill"),
        "seed": job.seed,
        "parameters": dict(job.parameters),
        "tables": {table.sql.replace('"', ""): held.file_uris() for table, held in schemas.items()},
        "labelled_sql": labelled_sql(family),
        "id": family.spine.entity[0],
        "texts": texts,
        "views": [
            {
                "name": selection.view.name,
                "table": selection.view.table.sql.replace('"', ""),
                "keys": selection.keys,
                "event_time": selection.view.event_time,
                "available_at": selection.view.available_at,
                "ttl_s": None
                if selection.view.ttl is None
                else int(selection.view.ttl.total_seconds()),
                "features": selection.features,
            }
            for selection in selections
        ],
    }


# The two sides, each in a process of its own


def run_ours(job: Job) -> Sample:
    shutil.rmtree(job.lake / "training", ignore_errors=True)
    phases = Phases()
    with phases.phase("imports"):
        from bare import declarations

        from mlops_assets.features import FeatureRegistry
        from mlops_assets.lake import Lake
        from mlops_assets.settings import DuckDBLimits
        from mlops_assets.training.dataset import load_parts
        from mlops_assets.training.estimators import FitOptions, estimator_class
        from mlops_assets.training.training_set import build_training_set
        from mlops_assets.transform.project import project_at

        family = declarations.model_family()
        project = project_at(declarations.PROJECT / "dbt_project")
        views = FeatureRegistry.from_manifest(project.manifest)
        estimator = estimator_class("catboost")
    limits = DuckDBLimits(
        memory_limit=job.memory_limit, threads=job.threads, scratch=job.folder / "scratch"
    )
    lake = Lake(str(job.lake), limits=limits)
    with phases.phase("training set"):
        made = build_training_set(lake, family, views)
    with phases.phase("frames"):
        parts = load_parts(lake, made.version, family)
    decided = {k: value for k, value in job.parameters.items() if k != "loss_function"}
    with phases.phase("fit"):
        model = estimator.fit(
            parts["train"], parts["validation"], decided, FitOptions(job.seed, job.threads)
        )
    with phases.phase("predictions"):
        predictions = {part: model.predict(parts[part].features) for part in ("validation", "test")}
    sample = finished(job, OURS, phases)
    (entity, *_) = family.spine.entity
    keep_proof(
        job.proof(OURS),
        {
            name: (part.context[entity].to_numpy(), part.label, part.features)
            for name, part in parts.items()
        },
        predictions,
    )
    return sample


def run_bare(job: Job, way: str) -> Sample:
    phases = Phases()
    rows, predictions = bare.run(json.loads(job.plan.read_text()), way, phases.phase)
    sample = finished(job, way, phases)
    keep_proof(job.proof(way), rows, predictions)
    return sample


def finished(job: Job, name: str, phases: Phases) -> Sample:
    """Take the peak before anything is done for the comparison."""
    sample = Sample(phases.cost()[0], peak_mb())
    job.report(name).write_text(json.dumps(asdict(phases)))
    return sample


# Are the answers the same?


def keep_proof(path: Path, rows: Mapping[str, Any], predictions: Mapping[str, Any]) -> None:
    """Keep labels and predictions of each part, and hashes of its ids and feature values."""
    import numpy as np
    from pandas.util import hash_array, hash_pandas_object

    kept: dict[str, Any] = {f"prediction of {part}": array for part, array in predictions.items()}
    for part, (ids, label, features) in rows.items():
        kept[f"ids of {part}"] = hash_array(np.asarray(ids, dtype=object))
        kept[f"label of {part}"] = np.asarray(label)
        for name in features.columns:
            kept[f"{name} of {part}"] = hash_pandas_object(features[name], index=False).to_numpy()
    np.savez(path, **kept)


def differences(ours: Path, theirs: Path) -> list[str]:
    """Say what is not the same to the last bit; nothing where all is."""
    import numpy as np

    with np.load(ours) as mine, np.load(theirs) as its:
        found = [f"{name}: on one side only" for name in sorted({*mine} ^ {*its})]
        for name in mine:
            if name not in its or np.array_equal(mine[name], its[name]):
                continue
            one, other = mine[name], its[name]
            if one.shape != other.shape:
                found.append(f"{name}: {len(one):,} rows against {len(other):,}")
            elif name.startswith("prediction"):
                apart = np.abs(one - other)
                found.append(f"{name}: {(apart > 0).sum():,} rows, by {apart.max():.1e} at most")
            else:
                found.append(f"{name}: {(one != other).sum():,} rows")
    return found


def extent(proof: Path) -> str:
    """Rows of each part and how many features they have."""
    import numpy as np

    with np.load(proof) as kept:
        rows = {part: len(kept[f"ids of {part}"]) for part in ("train", "validation", "test")}
        features = sum(name.endswith(" of train") for name in kept) - 2
    return f"{', '.join(f'{n:,} {part}' for part, n in rows.items())} rows, {features} features"


# The table


def breakdown(sides: Mapping[str, Phases]) -> str:
    heads = " | ".join(f"{name} s | CPU s" for name in sides)
    lines = [f"\n| phase, last run | {heads} |", f"|---|{'---:|---:|' * len(sides)}"]
    for name in (*sides[OURS].seconds, TOTAL):
        costs = [side.cost(*(() if name == TOTAL else (name,))) for side in sides.values()]
        cells = " | ".join(f"{wall:.2f} | {cpu:.2f}" for wall, cpu in costs)
        lines.append(f"| {name} | {cells} |")
    ours = sides[OURS]
    rest = [name for name in ours.seconds if name not in SAME_ON_BOTH]
    for name, side in sides.items():
        if name == OURS:
            continue
        (wall, cpu), (its_wall, its_cpu) = ours.cost(), side.cost()
        lines.append(
            f"\nAgainst {name}: {wall / its_wall:.3f} (target at most {TARGET_RATIO}), CPU "
            f"{cpu / its_cpu:.3f}; without fit and predictions CPU {ours.cost(*rest)[1]:.1f} s "
            f"against {side.cost(*rest)[1]:.1f} s"
        )
    return "\n".join(lines)


def main() -> None:
    from mlops_assets.settings import load_settings

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--home", type=Path, default=None, help="where the demo has run")
    parser.add_argument("--iterations", type=int, default=200, help="trees of the model")
    parser.add_argument("--threads", type=int, default=None, help="default: the deployment's")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each")
    parser.add_argument("--json", type=Path, default=None, help="also write the results here")
    options = parser.parse_args()
    settings = load_settings()
    threads = options.threads or settings.threads
    machine = measure.machine("duckdb", "deltalake", "catboost", "pandas")
    print(f"{machine}; {threads} threads", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(options.home or settings.home, Path(folder), threads, options.iterations)
        compared = measure.side_by_side(
            {
                OURS: partial(run_ours, job),
                **{way: partial(run_bare, job, way) for way in bare.WAYS},
            },
            runs=options.runs,
            warmups=0,
            base=list(bare.WAYS)[-1],
            isolated=True,
        )
        sides = {
            name: Phases(**json.loads(job.report(name).read_text())) for name in compared.outcomes
        }
        published = sum(f.stat().st_size for f in (job.lake / "training").rglob("*.parquet"))
        rows = extent(job.proof(OURS))
        apart = {way: differences(job.proof(OURS), job.proof(way)) for way in bare.WAYS}
    print(compared.table(f"Training set and CatBoost, {options.iterations} iterations"))
    print(breakdown(sides))
    print(f"\n{rows}; ours published {published / (1 << 20):.1f} MB of Parquet")
    measure.write_json(
        options.json,
        {"training": compared},
        machine=machine,
        threads=threads,
        parameters=dict(job.parameters),
        phases={name: asdict(side) for name, side in sides.items()},
        extent=rows,
        differences=apart,
    )
    if any(apart.values()):
        raise SystemExit("\n".join(f"{way}: {text}" for way in apart for text in apart[way]))
    print("Rows, labels, features and predictions are the same to the last bit")


if __name__ == "__main__":
    main()
