"""Decide about a challenger on the answers of two real models, with every slice of the family.

Needs a home in which a family's candidates were trained (``make demo``; ``MLOPS_HOME``). Its two
newest candidates answer the test part, untimed; the gate then decides by each primary metric.
*Naive* resamples the rows of the same days and calls scikit-learn's ROC AUC for both models, for
all rows only; a hundredth of its draws is run and the time multiplied.
"""

import argparse
import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import measure
import numpy as np
import yaml

from mlops_assets.registry import Contender, Decision, Registry, decide
from mlops_assets.registry.latency import measure_latency
from mlops_assets.settings import load_settings
from mlops_assets.training import ModelFamily, declare_family
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.dataset import Part, load_parts

DECLARATION = Path(__file__).parents[1] / "mlops_assets/defs/flights/delay/defs.yaml"
DAY = timedelta(days=1)


def declared(path: Path) -> ModelFamily:
    """Read a family and let its gate look at all there is."""
    attributes = yaml.safe_load(path.read_text(encoding="utf-8"))["attributes"]
    gate = {"slices": {"margin": 0.02}, "max_calibration_error": 0.05, "max_latency_ms": 100}
    return declare_family({**attributes, "gate": {**attributes.get("gate", {}), **gate}})


def contenders(family: ModelFamily) -> tuple[Part, list[Contender]]:
    """Let the two newest candidates answer the test part of what they learnt from."""
    registry = Registry.from_settings(load_settings())
    runs = registry.candidates(family.name)[:2]
    found = []
    for run in runs:
        model = registry.load(run)
        test = load_parts(registry.lake, run.training_set, family, ("test",), model.schema)["test"]
        until = test.days.min().item() - DAY
        latency = measure_latency(model, test.features.head(20))
        print(f"{run.name}: 95 of 100 single predictions take up to {latency.p95_ms:.2f} ms")
        found.append(Contender(run.name, model.predict(test.features), until, latency))
    return test, sorted(found, key=lambda contender: contender.name)


def by(
    metric: str, slices: bool, family: ModelFamily, test: Part, sides: list[Contender], draws: int
) -> Decision:
    """Decide by one metric."""
    gate = family.gate if slices else family.gate.model_copy(update={"slices": None})
    judged = family.model_copy(update={"primary_metric": metric, "gate": gate})
    return decide(judged, test, sides[0], sides[1], Resampling(draws=draws, seed=1))


def naive(test: Part, sides: list[Contender], draws: int) -> measure.Sample:
    """Resample rows by day and compute both areas, draw by draw."""
    from time import perf_counter

    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(1)
    days, day = np.unique(test.days, return_inverse=True)
    rows = [np.flatnonzero(day == index) for index in range(len(days))]
    few = max(1, draws // 100)
    begun = perf_counter()
    for _ in range(few):
        drawn = np.concatenate([rows[i] for i in generator.integers(len(days), size=len(days))])
        for side in sides:
            roc_auc_score(test.label[drawn], side.answers[drawn])
    return measure.Sample((perf_counter() - begun) * draws / few)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--family", type=Path, default=DECLARATION, help="its defs.yaml")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each")
    parser.add_argument("--json", type=Path, default=None, help="also write the results here")
    options = parser.parse_args()
    if "MLOPS_HOME" not in os.environ:
        parser.error("set MLOPS_HOME to a home in which the demo has run")
    print(measure.machine("numpy", "scipy", "scikit-learn"))
    family = declared(options.family)
    test, sides = contenders(family)
    decision = by(family.primary_metric, True, family, test, sides, options.draws)
    print(f"{len(test):,} rows, {options.draws:,} draws, {len(decision.slices)} slices")
    for condition in decision.conditions:
        print(f"  {'met  ' if condition.met else 'UNMET'} {condition.name}: {condition.reason}")
    for found in decision.slices:
        why = f"; {found.reason}" if found.low is not None and found.reason else ""
        print(f"    {found.verdict:<18} {found.rows:>7,} rows  {found}{why}")
    metrics = test.task.primary_metrics
    ways: dict[str, Callable[[], object]] = {
        f"{metric}, {'slices included' if slices else 'all rows only'}": partial(
            by, metric, slices, family, test, sides, options.draws
        )
        for metric in metrics
        for slices in (True, False)
    }
    if test.task.name == "binary":
        ways["naive roc_auc, all rows only"] = partial(naive, test, sides, options.draws)
    compared = measure.side_by_side(
        ways, runs=options.runs, base=f"{family.primary_metric}, slices included"
    )
    print(compared.table(f"The gate on {len(test):,} rows with {options.draws:,} draws"))
    measure.write_json(options.json, {"gate": compared}, rows=len(test), draws=options.draws)


if __name__ == "__main__":
    main()
