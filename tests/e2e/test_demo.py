"""What the demo promises: every asset made, nothing failing, and a champion worth its name."""

import re
from datetime import date
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlops_assets.lake import TableName, TableVersion
from mlops_assets.registry import LEDGER, Event
from mlops_assets.registry.ledger import read as read_ledger
from mlops_assets.training.dataset import feature_frame
from tests.demo import Demo

pytestmark = [pytest.mark.demo, pytest.mark.timeout(1800)]

FLIGHTS = 336_776
LOOP = re.compile(
    r"(predictions|monitoring)/|inference/service_health"
    r"|\w+/(drift|performance|retraining_decision|rollback_decision)$"
)
INTERVAL = re.compile(r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)")


def outside_the_loop(demo: Demo) -> list[dict[str, Any]]:
    """Return the assets that the demo makes: not those that follow a champion day by day."""
    return [asset for asset in demo.summary["assets"] if not LOOP.match(asset["asset"])]


def test_every_asset_was_made_and_no_check_fails(demo: Demo) -> None:
    assets = outside_the_loop(demo)
    assert len(assets) >= 40
    assert [a["asset"] for a in assets if a["materialised_at"] is None] == []
    assert [a["asset"] for a in assets if a["failing_checks"]] == []
    assert [a["asset"] for a in assets if a["unevaluated_checks"]] == []
    assert [a["asset"] for a in assets if a["freshness"] == "FAIL"] == []


def test_its_output_names_every_asset_and_sums_up(demo: Demo) -> None:
    if not demo.output:
        pytest.skip("the demo ran before this session, so that its output is not at hand")
    for asset in outside_the_loop(demo):
        assert f"✓ {asset['asset']}" in demo.output
    assert f"{FLIGHTS:,} rows" in demo.output
    assert len(INTERVAL.findall(demo.output)) >= 4 * 5  # candidates times metrics
    for promised in (
        "Tables",
        "Champion: flight_delay/1",
        "Checks:",
        "Where to look next",
        "A live prediction",
        "flight_delay/1 answers: ",
    ):
        assert promised in demo.output
    assert str(demo.home / "reports" / "flight_delay.html") in demo.output


def test_the_summary_names_rows_and_versions_of_every_table(demo: Demo) -> None:
    tables = {row["table"]: row for row in demo.summary["tables"]}
    assert set(tables) == {str(name) for name in demo.lake.tables()}
    assert tables["raw/flights"]["rows"] == FLIGHTS
    assert tables["marts/fct_flights"]["rows"] == FLIGHTS  # cancelled ones are kept, and labelled
    for name, row in tables.items():
        assert row["version"] == demo.lake.version(TableName.parse(name))


def family_named(demo: Demo, name: str) -> dict[str, Any]:
    [found] = [family for family in demo.summary["families"] if family["family"] == name]
    return found


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("flight_delay", ("roc_auc", "average_precision", "log_loss", "brier")),
        ("arrival_delay_minutes", ("pinball_loss", "mae", "rmse")),
    ],
)
def test_the_summary_gives_each_metric_with_its_interval(
    demo: Demo, name: str, metrics: tuple[str, ...]
) -> None:
    family = family_named(demo, name)
    assert {"linear", "catboost", "net", "ensemble"} >= set(family["candidates"]) >= {"catboost"}
    for numbers in family["candidates"].values():
        for metric in (*metrics, "calibration_error"):
            value = numbers[f"test_{metric}"]
            assert numbers[f"test_{metric}_low"] <= value < numbers[f"test_{metric}_high"]
            # Nothing but chance may separate what is promised from what happens.
            assert value > 0 or metric == "calibration_error"


def test_the_best_candidate_on_validation_is_champion_by_the_gate(demo: Demo) -> None:
    family = family_named(demo, "flight_delay")
    best = max(
        family["candidates"],
        key=lambda name: family["candidates"][name]["validation_roc_auc"],
    )
    assert (family["champion"], family["algorithm"]) == ("flight_delay/1", best)
    [entry] = read_ledger(demo.lake, "flight_delay")
    assert entry.event is Event.promoted
    assert entry.low is not None
    assert entry.low > 0
    assert family["last_decision"] == entry.reason


def test_the_champion_reaches_its_auc_on_the_flown_flights_of_the_last_quarter(demo: Demo) -> None:
    champion = demo.registry.find("flight_delay@champion")
    with demo.lake.connect() as con:
        test = con.sql(
            f"SELECT * FROM {champion.training_set.table.sql} WHERE split = 'test'"
        ).to_arrow_table()
    days = test["split_day"].to_numpy()
    assert (days.min(), days.max()) == (np.datetime64("2013-10-01"), np.datetime64("2013-12-31"))
    assert champion.last_day <= date(2013, 9, 30)
    with demo.lake.connect() as con:
        [(flown,)] = con.sql(
            "SELECT count(*) FROM raw.flights WHERE arr_delay IS NOT NULL AND month >= 10"
        ).fetchall()
    assert test.num_rows == flown

    estimator = demo.registry.load(champion)
    answers = estimator.predict(feature_frame(test, estimator.schema))
    reached = roc_auc_score(test["label"].to_numpy(), answers)

    assert reached == pytest.approx(champion.metrics["test_roc_auc"], abs=1e-9)
    assert reached >= 0.79
    catboost = family_named(demo, "flight_delay")["candidates"]["catboost"]
    assert catboost["test_roc_auc"] >= 0.78


def test_the_champion_pins_every_table_that_went_in(demo: Demo) -> None:
    champion = demo.registry.find("flight_delay@champion")
    pinned = {TableVersion(pin.table, pin.version) for pin in demo.lake.pins()}
    assert {champion.training_set, *champion.inputs} <= pinned
    assert {str(used.table.schema) for used in champion.inputs} >= {"features", "marts"}
    assert LEDGER in demo.lake.tables()


def test_the_report_works_offline(demo: Demo) -> None:
    text = (demo.home / "reports" / "flight_delay.html").read_text()
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text) == []
    assert "catboost" in text
    assert "data:image/" in text or "<svg" in text
