"""What a search costs beyond its fits: CatBoost trials against a bare loop of the same fits.

Ours is `search` with a study on disk, its worker process, a report at ever longer intervals of a
fit, and every trial as a nested run in an MLflow store in SQLite. Bare is a `for` loop that fits
CatBoost with the very same parameters on the same rows and computes the same log loss; it keeps
nothing. There are so few trials that none is pruned, so both do the same fits, and the values are
compared.

The second table is what the study and the log cost for a trial by themselves, at the beginning of a
long study and at its end.
"""

import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from measure import Candidate, arguments, machine, side_by_side, write_json

FEATURES, CATEGORIES = 36, 4
DAYS = 200
TARGET = 0.05
PARAMETERS = {"iterations": 400, "early_stopping_rounds": 400, "learning_rate": 0.08}
SPACE = {
    "depth": {"kind": "int", "low": 5, "high": 8},
    "learning_rate": {"kind": "float", "low": 0.03, "high": 0.2, "log": True},
    "l2_leaf_reg": {"kind": "float", "low": 1.0, "high": 20.0, "log": True},
    "random_strength": {"kind": "float", "low": 0.1, "high": 5.0, "log": True},
    "bagging_temperature": {"kind": "float", "low": 0.0, "high": 2.0},
}


@dataclass(frozen=True)
class Job:
    """Where the parts lie, and how much is searched."""

    folder: Path
    trials: int
    threads: int

    @property
    def parts(self) -> Path:
        return self.folder / "parts"


def make_part(name: str, rows: int) -> Any:
    import numpy as np
    import pandas as pd

    from mlops_assets.training.dataset import FeatureSchema, Part
    from mlops_assets.training.tasks import Binary

    random = np.random.default_rng([7, len(name)])
    numbers = random.normal(size=(rows, FEATURES)).astype(np.float32)
    columns: dict[str, Any] = {f"number_{i}": numbers[:, i] for i in range(FEATURES)}
    score = numbers[:, :12] @ np.linspace(0.8, 0.05, 12) + numbers[:, 0] * numbers[:, 1] * 0.4
    for i in range(CATEGORIES):
        codes = random.integers(0, 12 * (i + 1), size=rows)
        columns[f"kind_{i}"] = pd.Categorical.from_codes(
            codes, pd.Index([f"k{code}" for code in range(12 * (i + 1))])
        )
        score += 0.3 * np.sin(codes)
    label = random.random(rows) < 1 / (1 + np.exp(-(score - 1.2)))
    names = tuple(columns)
    return Part(
        name=name,
        schema=FeatureSchema(names, tuple(n for n in names if n.startswith("kind"))),
        task=Binary(),
        features=pd.DataFrame(columns),
        label=label.astype(np.float64),
        days=np.datetime64("2013-01-01") + np.sort(random.integers(0, DAYS, size=rows)),
        context=pd.DataFrame({"month": np.zeros(rows, dtype=np.int8)}),
    )


def declare(trials: int) -> Any:
    from mlops_assets.training import declare_family

    return declare_family(
        {
            "name": "tuned",
            "description": "A benchmark.",
            "owners": ["team:benchmarks"],
            "assumptions": ["None."],
            "limitations": ["Made up."],
            "spine": {"table": "features/spine", "entity": ["id"]},
            "label": {"table": "marts/labels", "column": "label", "available_at": "known_at"},
            "features": [{"view": "numbers"}],
            "split": {
                "train_end": "2013-03-01",
                "validation_end": "2013-03-20",
                "test_end": "2013-05-01",
            },
            "candidates": [
                {
                    "algorithm": "catboost",
                    "parameters": PARAMETERS,
                    "search": {"space": SPACE, "trials": trials},
                }
            ],
        }
    )


def registry_in(folder: Path) -> Any:
    from mlops_assets.lake import Lake
    from mlops_assets.registry import Registry
    from mlops_assets.settings import DuckDBLimits

    limits = DuckDBLimits(memory_limit="1GiB", threads=1, scratch=folder / "scratch")
    return Registry(
        f"sqlite:///{folder / 'mlflow.db'}",
        (folder / "artifacts").as_uri(),
        Lake(str(folder / "lake"), limits=limits),
        folder / "locks",
    )


def prepare_ours(job: Job) -> Any:
    from mlops_assets.training.tuning.shared import read_shared

    folder = job.folder / "ours"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    registry = registry_in(folder)
    assert registry.client is not None  # creating the store takes seconds once, not once a search
    return folder, registry, *read_shared(job.parts)


def ours(job: Job, prepared: Any) -> Any:
    from mlops_assets.lake import TableVersion
    from mlops_assets.registry.search_log import log_search
    from mlops_assets.training.tuning import name_study, search

    folder, registry, train, validation = prepared
    family = declare(job.trials)
    table = TableVersion.parse("training/tuned@1")
    found = search(
        family,
        family.candidates[0],
        train,
        validation,
        storage=folder / "studies",
        study_name=name_study(family, family.candidates[0], table, seed=3),
        seed=3,
        threads=job.threads,
    )
    log_search(registry, family, found, table)
    assert all(trial.value is not None for trial in found.trials), found.counts
    return found


def cpu_seconds() -> float:
    """Of this process and of the workers that it has ended."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))


def keep(job: Job, side: str, values: Sequence[Any], cpu: float) -> None:
    """Add a run's CPU seconds to what is known of a side, and keep the values it found."""
    path = job.folder / f"{side}.json"
    known = json.loads(path.read_text())["cpu"] if path.exists() else []
    path.write_text(json.dumps({"values": list(values), "cpu": [*known, cpu]}))


def ours_timed(job: Job, prepared: Any) -> None:
    begun = cpu_seconds()
    found = ours(job, prepared)
    keep(job, "ours", [trial.value for trial in found.trials], cpu_seconds() - begun)


def prepare_bare(job: Job) -> Any:
    import catboost  # noqa: F401 - imports are not timed, as the other side's are not
    import sklearn.metrics  # noqa: F401

    from mlops_assets.training.tuning.shared import read_shared

    return read_shared(job.parts)


def bare(job: Job, tried: Sequence[Mapping[str, Any]], prepared: Any) -> None:
    from catboost import CatBoostClassifier, Pool
    from sklearn.metrics import log_loss

    begun = cpu_seconds()
    train, validation = prepared
    categorical = list(train.schema.categorical)
    values = []
    for parameters in tried:
        learn, judge = (
            Pool(part.features, part.label, cat_features=categorical)
            for part in (train, validation)
        )
        model = CatBoostClassifier(
            loss_function="Logloss",
            random_seed=3,
            thread_count=job.threads,
            allow_writing_files=False,
            use_best_model=True,
            logging_level="Silent",
            **parameters,
        ).fit(learn, eval_set=judge)
        values.append(log_loss(validation.label, model.predict_proba(judge)[:, 1]))
    keep(job, "bare", values, cpu_seconds() - begun)


def cpu_of_same_values(job: Job) -> tuple[float, float]:
    """Check that both sides found the same, and return the median CPU seconds of ours and bare."""
    sides = [json.loads((job.folder / f"{side}.json").read_text()) for side in ("ours", "bare")]
    first, second = (side["values"] for side in sides)
    assert len(first) == job.trials
    assert all(abs(a - b) < 1e-9 for a, b in zip(first, second, strict=True)), (first, second)
    return statistics.median(sides[0]["cpu"]), statistics.median(sides[1]["cpu"])


def study_and_log(folder: Path, trials: int, reports: int) -> dict[str, list[float]]:
    """Seconds a trial of asking, reporting and telling, and of logging, without any fit."""
    from mlops_assets.lake import TableVersion
    from mlops_assets.registry.search_log import log_search
    from mlops_assets.training.tuning.result import Outcome, SearchResult, TrialRecord, TrialState
    from mlops_assets.training.tuning.study import open_study

    registry = registry_in(folder)
    family = declare(trials)
    declared = family.candidates[0].search
    spent: dict[str, list[float]] = {"study": [], "log": []}
    with open_study(
        folder, "alone", declared, greater_is_better=False, seed=3, parallel=False
    ) as study:
        for number in range(trials):
            begun = time.perf_counter()
            trial, _ = study.begin()
            for report in range(reports):
                study.report(trial, report + 1, 10 * reports, 1.0 / (report + 1))
            value = 0.5 + (number % 17) / 100
            study.finish(trial, Outcome(TrialState.COMPLETE, value, 1.0, 400, value), {})
            spent["study"].append(time.perf_counter() - begun)
    records = tuple(
        TrialRecord(
            number=number,
            state=TrialState.COMPLETE,
            value=0.5 + number / 1000,
            parameters=dict.fromkeys(SPACE, 1),
            declared=number == 0,
            seconds=1.0,
            iterations=400,
            loss=0.5,
            reason="",
            started_at=datetime.now(UTC),
        )
        for number in range(trials)
    )
    found = SearchResult(
        study="alone", family=family.name, candidate="catboost", metric="log_loss",
        metric_title="Log loss", greater_is_better=False, metric_is_loss=True,
        space=declared.space, trials=records, resumed=0, best=records[0], best_parameters={},
        importance={}, ended_by="trials", seconds=1.0, seed=3, threads=1, workers=1, train_rows=1,
        validation_rows=1,
    )  # fmt: skip
    begun = time.perf_counter()
    log_search(registry, family, found, TableVersion.parse("training/tuned@1"))
    spent["log"] = [(time.perf_counter() - begun) / trials]
    return spent


def main() -> None:
    parser = arguments(__doc__, rows=20_000, runs=3)
    # Pruning begins after five complete trials: more would be fitted by one side only.
    parser.add_argument("--trials", type=int, choices=range(1, 6), default=5, help="of a search")
    parser.add_argument("--threads", type=int, default=1, help="of a fit")
    parser.add_argument("--long", type=int, default=200, help="trials of the study without fits")
    options = parser.parse_args()
    from mlops_assets.training.tuning.shared import write_shared

    with tempfile.TemporaryDirectory(prefix="tuning_overhead_") as name:
        job = Job(Path(name), options.trials, options.threads)
        parts = make_part("train", options.rows), make_part("validation", options.rows // 5)
        write_shared(parts, job.parts)
        found = ours(job, prepare_ours(job))
        tried = [{**PARAMETERS, **trial.parameters} for trial in found.trials]
        comparison = side_by_side(
            {
                "bare": Candidate(partial(bare, job, tried), partial(prepare_bare, job)),
                "mlops-assets search": Candidate(
                    partial(ours_timed, job), partial(prepare_ours, job)
                ),
            },
            runs=options.runs,
            warmups=0,
            isolated=True,
        )
        our_cpu, bare_cpu = cpu_of_same_values(job)
        alone = Path(name) / "alone"
        alone.mkdir()
        spent = study_and_log(alone, options.long, reports=26)
    print(machine("catboost", "optuna", "mlflow"))
    print(comparison.table(f"{job.trials} CatBoost trials, {options.rows:,} rows, 400 iterations"))
    added_cpu = (our_cpu - bare_cpu) / job.trials
    print(
        f"\nCPU {our_cpu:.1f} s against {bare_cpu:.1f} s, ratio {our_cpu / bare_cpu:.3f}: "
        f"{added_cpu:.2f} s more a trial, the start of the worker and its imports included"
    )
    first, last = spent["study"][:20], spent["study"][-20:]
    trial_s = (comparison.outcomes["bare"].median or 0.0) / job.trials
    print(f"\n### The study and the log alone, {options.long} trials without a fit\n")
    print("| | ms a trial | share of a trial above |\n|---|---:|---:|")
    for what, seconds in (
        ("study, first 20 trials", statistics.mean(first)),
        (f"study, last 20 of {options.long}", statistics.mean(last)),
        ("MLflow, nested run", spent["log"][0]),
    ):
        print(f"| {what} | {1000 * seconds:.1f} | {seconds / trial_s:.2%} |")
    added = statistics.mean(last) + spent["log"][0]
    print(f"\nStudy and log together {added / trial_s:.2%} of a trial (target {TARGET:.0%})")
    write_json(
        options.json,
        {"tuning_overhead": comparison},
        rows=options.rows,
        trials=job.trials,
        cpu_ours=our_cpu,
        cpu_bare=bare_cpu,
        study_ms_first=1000 * statistics.mean(first),
        study_ms_last=1000 * statistics.mean(last),
        log_ms=1000 * spent["log"][0],
    )


if __name__ == "__main__":
    main()
