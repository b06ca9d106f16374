"""The work of ``mlops demo`` as a bare script: no Dagster, Delta, checks or registry.

``benchmarks/demo.py`` writes the plan (the same files, dbt's own SQL, the same point-in-time join,
all generated beforehand) and runs this in a process of its own::

    python benchmarks/bare/flights.py PLAN.json

It reads the files with DuckDB, makes each model a table of one DuckDB file, makes the training set,
fits each candidate, fits it again with validation, evaluates all, explains the best one, and
writes the same HTML report. Learning, metrics and report are the platform's plain functions: they
call scikit-learn, CatBoost and NumPy with nothing between, so that both sides compute the same
numbers and what differs is the platform. What is left out: contracts, quarantine, dbt's tests,
Delta files and their history, lineage, MLflow, the explanation's tables, the model card, the gate,
and Dagster's events.
"""

import json
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

SECONDS: dict[str, float] = {}


@contextmanager
def phase(name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    SECONDS[name] = time.perf_counter() - start


def read_raw(con: Any, table: dict[str, Any], folder: Path) -> None:
    path = Path(table["path"])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            path = Path(archive.extract(archive.namelist()[0], folder))
    derived = "".join(f", {sql} AS {name}" for name, sql in table["derived"].items())
    con.execute(
        f"CREATE TABLE {table['name']} AS SELECT *{derived} "
        f"FROM read_csv('{path}', header = true, columns = {table['types']}, "
        f"nullstr = {table['null_values']})"
    )


def make_training_set(con: Any, plan: dict[str, Any]) -> None:
    con.execute(plan["labelled_sql"])
    con.execute("SET asof_loop_join_threshold = 0")
    con.execute(f"CREATE TABLE training_set AS {plan['training_set_sql']}")


def audit_of(con: Any, features: int) -> Any:
    """What the report says about the training set; ours finds it while it audits."""
    from mlops_assets.training.training_set_audit import PartSummary, TrainingSetAudit

    parts = {
        name: PartSummary(rows, {"yes": yes}, first_day, last_day)
        for name, rows, yes, first_day, last_day in con.execute(
            "SELECT split, count(*), avg(label), min(split_day), max(split_day) FROM training_set "
            "WHERE split <> 'purged' GROUP BY split ORDER BY min(split_day)"
        ).fetchall()
    }
    purged, unlabelled = con.execute(
        "SELECT (SELECT count(*) FROM training_set WHERE split = 'purged'), "
        "(SELECT count(*) FROM marts.fct_flights WHERE arrived_late_30 IS NULL)"
    ).fetchall()[0]
    rows = sum(part.rows for part in parts.values()) + purged
    return TrainingSetAudit(rows, parts, purged, unlabelled, 0, features, ())


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(plan["folder"])
    with phase("imports"):
        import duckdb

        from mlops_assets.lake import TableName, TableVersion
        from mlops_assets.training.candidate import resampling_for, train_baseline
        from mlops_assets.training.dataset import PARTS, join_parts, load_part
        from mlops_assets.training.estimators import FitOptions, estimator_class
        from mlops_assets.training.evaluation import (
            choose_challenger,
            choose_threshold,
            evaluate,
        )
        from mlops_assets.training.explaining import explain_model
        from mlops_assets.training.family import declare_family
        from mlops_assets.training.report import Comparison, Entrant, write_report
        from mlops_assets.training.training_set import TrainingSet

    family = declare_family(plan["family"])
    options = FitOptions(plan["seed"], plan["threads"])
    resampling = resampling_for(family, plan["seed"])
    # The compiled SQL names relations memory.schema.table; a file of this name answers to it.
    with duckdb.connect(
        str(folder / "memory.duckdb"),
        config={
            "memory_limit": plan["memory_limit"],
            "threads": plan["threads"],
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
        },
    ) as con:
        con.execute("SET TimeZone = 'UTC'")
        for schema in ("raw", "staging", "intermediate", "marts", "features"):
            con.execute(f"CREATE SCHEMA {schema}")
        with phase("raw tables"):
            for table in plan["raw"]:
                read_raw(con, table, folder)
        with phase("dbt models"):
            for model in plan["models"]:
                con.execute(f"CREATE TABLE {model['name']} AS {model['sql']}")
        with phase("training set"):
            make_training_set(con, plan)
        with phase("candidates"):
            parts = {part: load_part(con, "training_set", part, family) for part in PARTS}
            train, validation, test = (parts[name] for name in PARTS)
            models, evaluations = {}, {}
            for declared in family.candidates:
                start = time.perf_counter()
                judged = estimator_class(declared.algorithm).fit(
                    train, validation, declared.parameters, options
                )
                answers = judged.predict(validation.features)
                final = judged
                if declared.refit:
                    final = judged.refit(join_parts(train, validation), options)
                SECONDS[f"  fit {declared.name}"] = time.perf_counter() - start
                threshold = choose_threshold(validation, answers, family.threshold)
                evaluations[declared.name] = {
                    part.name: evaluate(part, given, family, resampling, threshold)
                    for part, given in (
                        (validation, answers),
                        (test, final.predict(test.features)),
                    )
                }
                model_folder = folder / declared.name
                model_folder.mkdir()
                final.save(model_folder)
                models[declared.name] = final
        with phase("evaluation and report"):
            chosen = choose_challenger(
                family, {name: found["validation"] for name, found in evaluations.items()}
            )
            entrants = [
                Entrant.of(
                    declared.name,
                    declared.algorithm,
                    models[declared.name],
                    evaluations[declared.name],
                )
                for declared in family.candidates
            ]
            comparison = Comparison(
                family=family,
                training_set=TrainingSet(
                    TableVersion(TableName("training", family.name), 0),
                    (),
                    audit_of(con, len(train.schema.names)),
                    family.split.days(),
                    datetime.now(UTC),
                ),
                entrants=tuple(entrants),
                chosen=chosen,
                baseline=evaluate(
                    test,
                    train_baseline(family, parts).predict(test.features),
                    family,
                    resampling,
                ),
                facts={"made": date.today().isoformat()},  # noqa: DTZ011 - only for the reader
                explanation=explain_model(
                    models[chosen], test, family, evaluations[chosen]["test"]
                ),
            )
            write_report(comparison, folder / "report.html")
        rows = con.execute("SELECT count(*) FROM training_set").fetchall()[0][0]
    result = {
        "seconds": SECONDS,
        "rows": rows,
        "features": len(train.schema.names),
        "bytes": (folder / "memory.duckdb").stat().st_size,
        "metrics": {
            name: {
                f"{part}_{metric}": evaluation.value(metric)
                for part, evaluation in found.items()
                for metric in ("roc_auc", "average_precision", "log_loss", "brier")
            }
            for name, found in evaluations.items()
        },
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
