"""A tick of the retraining sensors of many families: how long until all of them have looked.

Each family has a champion, a judgement of its freshness, and decisions of three months in one table
of a real lake; Dagster's instance is a real one, on SQLite. The sensors are evaluated one after the
other in one process, as the code server does it for the daemon: first all whose answer is to skip,
then a tick in which one in ten asks for a run.

    python benchmarks/sensor_tick.py
    python benchmarks/sensor_tick.py --families 10 --runs 1
"""

import argparse
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
from measure import machine

from mlops_assets.lake import Lake
from mlops_assets.monitoring.decision import Decision
from mlops_assets.monitoring.tables import DECISIONS, MonitoringTables, schema_of
from mlops_assets.orchestration.instance import open_instance
from mlops_assets.orchestration.model_family.judging import champion
from mlops_assets.orchestration.model_family.retraining import retraining_defs
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.settings import load_settings
from mlops_assets.training import ModelFamily, declare_family

DAYS = 92
LIMIT_SECONDS = 2.0


def family_named(name: str) -> ModelFamily:
    return declare_family(
        {
            "name": name,
            "description": "One of many.",
            "owners": ["team:benchmark"],
            "assumptions": ["none"],
            "limitations": ["none"],
            "spine": {"table": "features/spine", "entity": ["id"]},
            "label": {"table": "features/spine", "column": "label", "available_at": "known_at"},
            "features": [{"view": "features"}],
            "split": {
                "train_end": "2024-01-01",
                "validation_end": "2024-02-01",
                "test_end": "2024-03-01",
            },
            "candidates": [{"algorithm": "linear"}],
        }
    )


def definitions(families: list[ModelFamily], platform: Platform) -> dg.Definitions:
    made = []
    for family in families:
        asset = champion(family)
        made.append(
            dg.Definitions.merge(dg.Definitions(assets=[asset]), retraining_defs(family, [asset]))
        )
    return dg.Definitions.merge(*made, dg.Definitions(resources={RESOURCE_KEY: platform}))


def fill(lake: Lake, families: list[ModelFamily]) -> None:
    """Write decisions of every day, all of them no."""
    import pyarrow as pa

    at = datetime(2024, 6, 1, tzinfo=UTC)
    rows = [
        {
            "family": family.name,
            "day": date(2024, 3, 1) + timedelta(days=number),
            "evaluation": "benchmark",
            "evaluated_at": at,
            "at": at,
            "retrain": False,
            "reasons_for": [],
            "reasons_against": ["12 labelled rows have come since, fewer than 1,000"],
            "champion": 1,
        }
        for family in families
        for number in range(DAYS)
    ]
    lake.append(DECISIONS, pa.Table.from_pylist(rows, schema=schema_of(DECISIONS)))


def ask(lake: Lake, families: list[ModelFamily]) -> None:
    """Decide for some of them that they are to be trained again."""
    at = datetime.now(UTC)
    for family in families:
        yes = Decision(family.name, at, True, ("drift",), (), 1, *[None] * 7)
        day = date(2024, 3, 1) + timedelta(days=DAYS)
        MonitoringTables(lake, family.name, day, "benchmark", at).write_decision(yes)


def tick(defs: dg.Definitions, instance: dg.DagsterInstance) -> tuple[float, int]:
    """Evaluate every sensor once; return how long it took, and how many asked for a run."""
    sensors = [defs.resolve_sensor_def(each.name) for each in defs.sensors or ()]
    asked = 0
    began = time.perf_counter()
    for sensor in sensors:
        with dg.build_sensor_context(
            instance=instance, definitions=defs, resources=defs.resources
        ) as context:
            asked += len(sensor.evaluate_tick(context).run_requests or ())
    return time.perf_counter() - began, asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    print(machine("dagster", "deltalake", "duckdb"))
    with tempfile.TemporaryDirectory() as home:
        platform = Platform(load_settings(home=Path(home)))
        families = [family_named(f"family_{number}") for number in range(chosen.families)]
        defs = definitions(families, platform)
        fill(platform.lake, families)
        with open_instance(platform.settings) as instance:
            for family in families:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization([family.name, "champion"])
                )
            first, _ = tick(defs, instance)
            quiet = sorted(tick(defs, instance)[0] for _ in range(chosen.runs))
            ask(platform.lake, families[::10])
            busy, asked = tick(defs, instance)
        assert asked == len(families[::10]), asked
        middle = quiet[len(quiet) // 2]
        print(f"{len(families)} families, {DAYS} days of decisions each")
        print(f"  the first tick              {first:6.2f} s")
        print(f"  nothing new (median of {len(quiet)})   {middle:6.2f} s")
        print(f"  {asked:3} of them ask for a run    {busy:6.2f} s")
        if max(first, middle, busy) > LIMIT_SECONDS:
            raise SystemExit(f"slower than {LIMIT_SECONDS:g} s")


if __name__ == "__main__":
    main()
