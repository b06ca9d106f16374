"""List many registered models: `mlops models list` over one version, and over a thousand.

The registry is made as the platform leaves it: MLflow's store in SQLite, each version with tags of
the size real ones have, its pins and its line in the ledger. *Asking* is what the command does once
its libraries are imported and the store is open; *the command* is the whole process, of which one
version shows the start-up.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import measure

from mlops_assets.registry import Event, LedgerEntry, Registry, ledger
from mlops_assets.settings import Settings, load_settings

METRICS = ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error")
COMPACT_EVERY = 100  # entries, as registering does


@dataclass(frozen=True)
class Store:
    """A deployment's state, picklable for a fresh process."""

    home: Path

    def settings(self) -> Settings:
        return load_settings(home=self.home)

    def registry(self) -> Registry:
        return Registry.from_settings(self.settings())


def tags(family: str, number: int) -> dict[str, str]:
    """Give tags as a trained candidate has them."""
    numbers = {
        f"{part}_{metric}{end}": 0.7 + number / 10_000
        for part in ("validation", "test")
        for metric in METRICS
        for end in ("", "_low", "_high")
    }
    inputs = [f"features/view_{i}@{number}" for i in range(14)]
    record = {
        "mlops.family": family,
        "mlops.candidate": "catboost",
        "mlops.algorithm": "catboost",
        "mlops.training_set": f"training/{family}@{number}",
        "mlops.inputs": json.dumps(inputs),
        "mlops.first_day": "2013-01-01",
        "mlops.last_day": "2013-09-30",
        "mlops.seed": "1",
        "mlops.threads": "2",
        "mlops.threshold": "0.3",
        "mlops.metrics": json.dumps(numbers),
        "mlops.primary_metric": "roc_auc",
        "mlops.git_commit": "0" * 40,
        "mlops.lockfile_sha256": "0" * 64,
        "mlops.dbt_manifest_sha256": "0" * 64,
        "mlops.model_id": f"m-{number}",
    }
    return {"mlops.record": json.dumps(record)}


def fill(store: Store, families: int, versions: int) -> None:
    """Register versions, and let the gate promote every tenth."""
    registry = store.registry()
    client = registry.client
    champion: dict[str, int] = {}
    run = client.create_run(client.create_experiment("family")).info.run_id
    for number in range(versions):
        family = f"family_{number % families}"
        if number < families:
            client.create_registered_model(family)
        made = client.create_model_version(
            family, f"file:///models/{number}", run_id=run, tags=tags(family, number)
        )
        version, before = int(made.version), champion.get(family)
        promoted = before is None or version % 10 == 0
        if promoted:
            client.set_registered_model_alias(family, "champion", str(version))
            champion[family] = version
        entry = LedgerEntry(
            family=family,
            event=Event.promoted if promoted else Event.refused,
            actor="dagster run",
            reason="the gate said so",
            from_version=before,
            to_version=champion[family],
            challenger=version,
            metric="roc_auc",
            decision=json.dumps({"conditions": ["x" * 100] * 40}),
        )
        ledger.append(registry.lake, entry)
        if number % COMPACT_EVERY == COMPACT_EVERY - 1:
            registry.lake.compact(ledger.LEDGER)


def opened(store: Store) -> Registry:
    """Import what is needed and open the store: start-up."""
    registry = store.registry()
    registry.families()
    ledger.read(registry.lake, "nobody")
    return registry


def ask(count: int, registry: Registry) -> None:
    """Do what the command does between start-up and printing."""
    found = registry.all_versions()
    entries = ledger.read(registry.lake)
    if len(found) != count or len(entries) != count:
        raise RuntimeError(f"{len(found)} versions and {len(entries)} entries, not {count}")


def command(store: Store) -> None:
    """Run the whole command."""
    subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli.main", "models", "list"],
        env={**os.environ, "MLOPS_HOME": str(store.home)},
        check=True,
        capture_output=True,
    )


def main() -> None:
    parser = measure.arguments(__doc__, rows=1000)
    parser.add_argument("--families", type=int, default=4, help="families they belong to")
    options = parser.parse_args()
    print(measure.machine("mlflow", "deltalake", "duckdb"))
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as scratch:
        stores = {1: Store(Path(scratch, "one")), options.rows: Store(Path(scratch, "many"))}
        for count, store in stores.items():
            fill(store, min(count, options.families), count)
        names = {count: f"{count:,} versions" for count in stores}
        asking = {
            names[count]: measure.Candidate(partial(ask, count), partial(opened, store))
            for count, store in stores.items()
        }
        whole = {names[count]: partial(command, store) for count, store in stores.items()}
        compared = {
            "Asking": measure.side_by_side(asking, runs=options.runs, base=names[1]),
            "The command": measure.side_by_side(whole, runs=options.runs, base=names[1]),
        }
    for title, comparison in compared.items():
        print(comparison.table(title))
    measure.write_json(options.json, compared, versions=options.rows)


if __name__ == "__main__":
    main()
