"""Training a family in one go does what the steps of its job do, with what was known by then."""

from datetime import UTC, date, datetime
from pathlib import Path

from mlops_assets.production.documenting import card_folder
from mlops_assets.production.platform import Platform
from mlops_assets.production.training import TrainedFamily, train_family
from mlops_assets.registry import Event
from mlops_assets.registry.ledger import read as read_ledger
from mlops_assets.settings import load_settings
from mlops_assets.training import ModelFamily, declare_family
from mlops_assets.training.training_set import published_training_set
from tests.registry.conftest import DECLARATION, make_lake, make_views

FAMILY = declare_family(
    {
        **DECLARATION,
        "split": {
            "train_end": "2013-01-20",
            "validation_end": "2013-01-28",
            "test_end": "2013-02-10",
            "rolling": {"validation_days": 8, "test_days": 12},
        },
        "candidates": [
            {"algorithm": "catboost", "parameters": {"iterations": 30, "depth": 3}},
            {"algorithm": "ensemble", "parameters": {"members": ["linear", "catboost"]}},
            {
                "algorithm": "linear",
                "search": {
                    "space": {"C": {"kind": "float", "low": 0.01, "high": 1, "log": True}},
                    "trials": 2,
                },
            },
        ],
    }
)


REFUSED = "untouched rows"


def only(*names: str, test_days: int = 12) -> ModelFamily:
    """Return the family with some of its candidates."""
    rolling = FAMILY.split.rolling.model_copy(update={"test_days": test_days})
    return FAMILY.model_copy(
        update={
            "split": FAMILY.split.model_copy(update={"rolling": rolling}),
            "candidates": tuple(one for one in FAMILY.candidates if one.name in names),
        }
    )


def test_a_family_is_trained_judged_and_trained_again_on_newer_days(tmp_path: Path):
    make_lake(tmp_path)
    platform, views = Platform(load_settings(home=tmp_path, threads=1)), make_views()
    registry, said = platform.registry, []

    def train(family: ModelFamily, actor: str, month: int, day: int) -> TrainedFamily:
        said.clear()
        at = datetime(2013, month, day, tzinfo=UTC)
        return train_family(platform, family, views, actor=actor, as_of=at, say=said.append)

    first = train(FAMILY, "me", 2, 10)

    assert first.promoted
    assert first.outcome.champion == registry.find("late_flights@champion")
    assert first.challenger.last_day == date(2013, 1, 27)
    assert (card_folder(platform, first.challenger) / "model_card.html").exists()
    assert (platform.settings.home / "reports" / "late_flights.html").exists()
    trained = [line for line in said if line.startswith("training ")]
    assert trained == ["training catboost", "training linear", "training ensemble"]
    assert any(line.startswith("trial 1 ") for line in said)

    early = train(only("catboost", test_days=20), "too early", 2, 15)

    assert not early.promoted
    condition = next(c for c in early.outcome.decision.conditions if c.name == REFUSED)
    assert not condition.met
    assert f"{first.challenger} learnt from rows up to 2013-01-27" in condition.reason
    assert str(registry.find("late_flights@champion")) == str(first.challenger)

    again = train(only("linear"), "me again", 3, 10)

    assert not any(line.startswith("trial") for line in said)  # the parameters were found before
    assert again.challenger.last_day == date(2013, 2, 23)
    decision = again.outcome.decision
    assert (decision.first_day, decision.last_day) == (date(2013, 2, 24), date(2013, 3, 7))
    assert decision.opponent == str(first.challenger)
    assert next(c for c in decision.conditions if c.name == REFUSED).met
    serves = again.challenger if decision.promote else first.challenger
    assert str(registry.find("late_flights@champion")) == str(serves)
    [promoted, _, judged] = read_ledger(platform.lake, "late_flights")
    assert (promoted.event, promoted.actor) == (Event.promoted, "me")
    assert (judged.event is Event.promoted, judged.actor) == (decision.promote, "me again")
    made = published_training_set(platform.lake, again.training_set)
    assert made.as_of == datetime(2013, 3, 10, tzinfo=UTC)
