"""What the platform adds to the work of the demo: ``mlops demo`` against a bare script.

``mlops demo`` runs in a copy of the project, in a fresh home: Dagster, contracts, dbt with its
tests, Delta, MLflow, explanation, model card, gate, summary. The copy has the family
``flight_delay`` only, with two candidates, linear and CatBoost, with their declared parameters and
without a search: searches, net, ensemble, a second family, the online store and the model server
are more work, not the platform's price for the same. The other side is ``bare/flights.py``: DuckDB,
CatBoost and scikit-learn, nothing else; it says what it does and what it leaves out. The metrics of
both must be the same.

Both are processes of their own, timed from their start to their end by the clock on the wall, one
after the other in turn. dbt's manifest is made in the copy, and dbt's SQL compiled for the bare
side, beforehand.

    python benchmarks/demo.py
    python benchmarks/demo.py --rounds 3
    python benchmarks/demo.py --iterations 20  # does it work? fits are short, ratios are high
"""

import argparse
import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import measure
import yaml
from bare import declarations
from measure import Candidate, DidNotFinishError, Sample

TARGET_RATIO = 1.5
SAME = 1e-9  # the largest difference of a metric between the two sides
BARE = Path(__file__).parent / "bare" / "flights.py"
COMPARED = ("linear", "catboost")
METRICS = ("roc_auc", "average_precision", "log_loss", "brier")
FIT = "  fit "
START = "start, definitions, summary"


@dataclass
class Found:
    """What the last run of one side said about itself.

    Attributes
    ----------
    cpu_s
        Seconds of CPU of the whole process tree, which other work on the machine changes little.
    """

    cpu_s: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0


def candidates(iterations: int | None) -> list[dict[str, Any]]:
    """The candidates that both sides train: as declared, but for their search.

    Parameters
    ----------
    iterations
        Most trees of CatBoost; None for as many as the estimator's default.
    """
    declared = {found.name: found for found in declarations.model_family().candidates}
    found = [
        declared[name].model_dump(mode="json", include={"algorithm", "parameters", "refit"})
        for name in COMPARED
    ]
    if iterations is not None:
        found[COMPARED.index("catboost")]["parameters"]["iterations"] = iterations
    return found


# The bare side


def make_plan(folder: Path, trained: list[dict[str, Any]]) -> dict[str, Any]:
    """Generate all that the bare script reads: files, types, SQL in order, and the declaration."""
    from mlops_assets.features import FeatureRegistry
    from mlops_assets.quality import columns
    from mlops_assets.settings import load_settings

    settings = load_settings()
    manifest = compile_models(folder)
    family = declarations.model_family(candidates=trained)
    return {
        "memory_limit": settings.memory_limit,
        "threads": settings.threads,
        "seed": settings.seed if family.seed is None else family.seed,
        "family": family.model_dump(mode="json"),
        "raw": [
            {
                "name": _sql(str(table.table)),
                "path": str(declarations.source_path(table)),
                "types": {
                    column.name: column.duckdb_type
                    for column in columns(table.contract)
                    if column.name not in table.derived
                },
                "null_values": list(table.source.null_values),
                "derived": table.derived,
            }
            for table in declarations.raw_tables()
        ],
        "models": models_in_order(manifest),
        "labelled_sql": labelled_sql(family),
        "training_set_sql": training_set_sql(family, FeatureRegistry.from_manifest(manifest)),
    }


def compile_models(folder: Path) -> dict[str, Any]:
    """Return dbt's manifest with the compiled SQL of every model, all days at once."""
    project = declarations.PROJECT / "dbt_project"
    target = folder / "compiled"
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("dbt"), "--quiet", "compile"),
            *("--project-dir", project, "--profiles-dir", project, "--target-path", target),
            *("--log-path", target),
        ],
        env={**os.environ, "MLOPS_HOME": str(folder / "no-lake")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"dbt compile: {done.stdout}{done.stderr}")
    manifest: dict[str, Any] = json.loads((target / "manifest.json").read_text())
    return manifest


def models_in_order(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    models = {
        name: node for name, node in manifest["nodes"].items() if node["resource_type"] == "model"
    }
    parents = {
        name: [parent for parent in node["depends_on"]["nodes"] if parent in models]
        for name, node in models.items()
    }
    return [
        {
            "name": f"{models[name]['schema']}.{models[name]['name']}",
            "sql": models[name]["compiled_code"],
        }
        for name in TopologicalSorter(parents).static_order()
    ]


def labelled_sql(family: Any) -> str:
    """The spine's rows that have a label, each with its part of the split."""
    split, moment = family.split, f"spine.{family.split_column}"
    on = " AND ".join(f"spine.{mine} = truth.{its}" for mine, its in family.label_keys.items())
    return f"""
        CREATE TABLE labelled AS
        WITH parts AS (
            SELECT spine.*, CAST(truth.{family.label.column} AS DOUBLE) AS label,
                truth.{family.label.available_at} AS label_available_at,
                CAST({moment} AS DATE) AS split_day, CAST(hour({moment}) AS TINYINT) AS split_hour,
                CASE WHEN {moment} < DATE '{split.train_end}' THEN 'train'
                    WHEN {moment} < DATE '{split.validation_end}' THEN 'validation'
                    WHEN {moment} < DATE '{split.test_end}' THEN 'test' END AS part
            FROM {_sql(family.spine.table)} AS spine
            JOIN {_sql(family.label.table)} AS truth ON {on}
            WHERE truth.{family.label.column} IS NOT NULL
        ),
        begins AS (
            SELECT min(prediction_time) FILTER (part = 'validation') AS validation_begins,
                min(prediction_time) FILTER (part = 'test') AS test_begins
            FROM parts
        )
        SELECT * EXCLUDE (part, validation_begins, test_begins),
            CASE WHEN part = 'train' AND label_available_at > validation_begins THEN 'purged'
                WHEN part IN ('train', 'validation') AND label_available_at > test_begins
                THEN 'purged' ELSE part END AS split
        FROM parts CROSS JOIN begins
        WHERE part IS NOT NULL
    """


def _sql(table: str) -> str:
    return table.replace("/", ".")


def training_set_sql(family: Any, views: Any) -> str:
    """The same point-in-time join as the platform's, without the columns that only it needs."""
    from mlops_assets.features import Spine, point_in_time_sql
    from mlops_assets.training.training_set import select_features

    selections = select_features(family, views)
    keys = tuple(dict.fromkeys(name for s in selections for name, _ in s.keys))
    joined = point_in_time_sql(Spine("labelled", keys, family.spine.prediction_time), selections)
    own = ("label", "label_available_at", "split", "split_day", "split_hour", "prediction_time")
    kept = [*own, *family.spine.entity, *family.spine.keep]
    features = [s.prefix + name for s in selections for name in s.features]
    return f"SELECT {', '.join(dict.fromkeys([*kept, *features]))} FROM ({joined}) AS joined"


def run_bare(plan: Mapping[str, Any], found: Found) -> Sample:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "plan.json"
        path.write_text(json.dumps({**plan, "folder": name}))
        sample, found.cpu_s = timed(
            [sys.executable, str(BARE), str(path)], dict(os.environ), folder
        )
        result = json.loads((folder / "result.json").read_text())
        found.seconds = result["seconds"]
        found.metrics = result["metrics"]
        found.rows = result["rows"]
        found.bytes = {"DuckDB file": result["bytes"]}
    return sample


# Our side


def copy_project(root: Path, trained: list[dict[str, Any]]) -> None:
    """Make a project of one family that trains what the bare side trains, with dbt's manifest."""
    from mlops_assets.transform.project import DbtProject

    ignored = shutil.ignore_patterns("__pycache__", "target", "logs")
    for name in ("mlops_assets", "dbt_project"):
        shutil.copytree(declarations.PROJECT / name, root / name, ignore=ignored)
    for name in ("pyproject.toml", "workspace.yaml", "constraints.txt"):
        shutil.copy(declarations.PROJECT / name, root)
    flights = root / "mlops_assets" / "defs" / "flights"
    for beyond in ("arrival_delay", "online", "serving"):
        shutil.rmtree(flights / beyond)
    path = flights / "delay" / "defs.yaml"
    document = yaml.safe_load(path.read_text())
    document["attributes"]["candidates"] = trained
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    DbtProject(root / "dbt_project").ensure_manifest()
    # As installing a package does; where PYTHONDONTWRITEBYTECODE is set, a run could not keep it.
    compileall.compile_dir(str(root / "mlops_assets"), quiet=1, force=True)


def run_demo(project: Path, found: Found) -> Sample:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        inherited = {key: value for key, value in os.environ.items() if "DAGSTER" not in key}
        environment = {
            **inherited,
            "MLOPS_HOME": name,
            "MLOPS_PROJECT_ROOT": str(project),
            "PYTHONPATH": str(project),  # the copy, and not what is installed
        }
        command = [sys.executable, "-m", "mlops_assets.cli.main", "demo", "--no-prediction"]
        sample, found.cpu_s = timed(command, environment, home)
        found.seconds = steps_of(home, sample.seconds)
        found.metrics, fits, found.rows = results_of(home)
        found.seconds = {**found.seconds, **fits}
        found.bytes = {
            part: sum(file.stat().st_size for file in (home / part).rglob("*") if file.is_file())
            for part in ("lake", "dagster", "mlflow", "reports")
        }
    return sample


def steps_of(home: Path, total: float) -> dict[str, float]:
    """Seconds of each phase, from Dagster's event log."""
    from mlops_assets.orchestration.instance import open_instance
    from mlops_assets.settings import load_settings

    with open_instance(load_settings(home=home)) as instance:
        (run,) = instance.get_runs()
        stats = instance.get_run_step_stats(run.run_id)
    phases: dict[str, float] = {}
    for step in stats:
        if step.start_time is None or step.end_time is None:
            raise RuntimeError(f"{step.step_key} did not end, although the run succeeded")
        name = phase_of(step.step_key)
        seconds = step.end_time - step.start_time
        phases[name] = phases.get(name, 0.0) + seconds
    return {**phases, START: total - sum(phases.values())}


def phase_of(step: str) -> str:
    if step.startswith("raw__"):
        return "raw tables"
    if step.startswith("dbt_"):
        return "dbt models"
    if step.startswith("training__"):
        return "training set"
    if step.endswith("__evaluation"):
        return "evaluation and report"
    if step.endswith("__explanation"):
        return "explanation and model card"
    return "registry and gate" if step.endswith(("__challenger", "__champion")) else "candidates"


def results_of(home: Path) -> tuple[dict[str, dict[str, float]], dict[str, float], int]:
    """Metrics and seconds of fitting, as MLflow has them, and rows of the training set."""
    from mlops_assets.lake import Lake, TableVersion
    from mlops_assets.registry import Registry
    from mlops_assets.settings import load_settings

    settings = load_settings(home=home)
    lake = Lake.from_settings(settings)
    family = declarations.model_family()
    table = family.training_set
    version = TableVersion(table, lake.version(table))
    logged = Registry.from_settings(settings, lake).candidates(family.name, version)
    named = [f"{part}_{name}" for part in ("validation", "test") for name in METRICS]
    metrics = {run.name: {name: run.metrics[name] for name in named} for run in logged}
    fits = {f"{FIT}{run.name}": run.metrics["fit_seconds"] for run in logged}
    return metrics, fits, lake.describe(table).rows


def timed(command: list[str], environment: dict[str, str], folder: Path) -> tuple[Sample, float]:
    """Run a command to its end; return its time and peak memory, and its seconds of CPU."""
    log = folder / "output.txt"
    start = time.perf_counter()
    with log.open("wb") as output:
        # In the folder, because "python -m" looks for packages where it runs before PYTHONPATH.
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise DidNotFinishError(f"{' '.join(command)}: {log.read_text()[-2000:]}")
    in_mb = 1 << 20 if sys.platform == "darwin" else 1024
    return Sample(seconds, usage.ru_maxrss / in_mb), usage.ru_utime + usage.ru_stime


# The tables


def breakdown(ours: Found, bare: Found) -> str:
    # Fits are part of "candidates", so they come after it.
    names: list[str] = []
    for name in dict.fromkeys([*bare.seconds, *ours.seconds]):
        if not name.startswith(FIT):
            names.append(name)
        if name == "candidates":
            names += [fit for fit in bare.seconds if fit.startswith(FIT)]
    lines = ["\n| phase | mlops demo s | bare s |", "|---|---:|---:|"]
    for name in names:
        cells = [
            f"{side.seconds[name]:.1f}" if name in side.seconds else "-" for side in (ours, bare)
        ]
        label = f"&nbsp;&nbsp;{name.strip()}" if name.startswith(" ") else name
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines.append("\n| metric | mlops demo | bare |\n|---|---:|---:|")
    for candidate, metrics in bare.metrics.items():
        for metric, value in metrics.items():
            lines.append(
                f"| {candidate} {metric} | {ours.metrics[candidate][metric]:.4f} | {value:.4f} |"
            )
    lines.append(
        f"\nCPU: {ours.cpu_s:.0f} s against {bare.cpu_s:.0f} s, ratio {ours.cpu_s / bare.cpu_s:.2f}"
    )
    for side, found in (("mlops demo", ours), ("bare", bare)):
        sizes = ", ".join(
            f"{part} {size / (1 << 20):,.1f} MB" for part, size in found.bytes.items()
        )
        lines.append(f"\n{side}: {found.rows:,} training rows; {sizes}")
    return "\n".join(lines)


def differences(ours: Found, bare: Found) -> list[str]:
    """Say which metrics are not the same on both sides."""
    if ours.metrics.keys() != bare.metrics.keys() or ours.rows != bare.rows:
        return [
            f"{list(ours.metrics)} of {ours.rows} rows, bare {list(bare.metrics)} of {bare.rows}"
        ]
    return [
        f"{candidate} {metric}: {ours.metrics[candidate][metric]!r}, bare {value!r}"
        for candidate, metrics in bare.metrics.items()
        for metric, value in metrics.items()
        if abs(ours.metrics[candidate][metric] - value) > SAME
    ]


def without_fits(side: Found) -> float:
    phases = [seconds for name, seconds in side.seconds.items() if not name.startswith(FIT)]
    fits = [seconds for name, seconds in side.seconds.items() if name.startswith(FIT)]
    return sum(phases) - sum(fits)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side, in turn")
    parser.add_argument(
        "--iterations", type=int, default=None, help="most trees of CatBoost, to try the script"
    )
    parser.add_argument("--json", type=Path, default=None, help="also write the results here")
    options = parser.parse_args()
    print(
        measure.machine("dagster", "dbt-core", "duckdb", "deltalake", "mlflow", "catboost"),
        flush=True,
    )
    ours, bare = Found(), Found()
    with tempfile.TemporaryDirectory() as folder:
        trained = candidates(options.iterations)
        plan = make_plan(Path(folder), trained)
        project = Path(folder) / "project"
        copy_project(project, trained)
        compared = measure.side_by_side(
            {
                "mlops demo": Candidate(lambda: run_demo(project, ours)),
                "bare": Candidate(lambda: run_bare(plan, bare)),
            },
            runs=options.rounds,
            warmups=0,
        )
    print(compared.table("The demo with two candidates, 336,776 flights"))
    print(breakdown(ours, bare))
    ratio = compared.ratio("mlops demo")
    print(
        f"\nRatio {ratio:.2f} (target at most {TARGET_RATIO}); without fitting, which is the same "
        f"on both sides: {without_fits(ours):.1f} s against {without_fits(bare):.1f} s in the last "
        f"round, {without_fits(ours) / without_fits(bare):.2f}"
    )
    measure.write_json(options.json, {"demo": compared}, ours=vars(ours), bare=vars(bare))
    if found := differences(ours, bare):
        raise SystemExit("The two sides did not do the same work:\n" + "\n".join(found))


if __name__ == "__main__":
    main()
