"""Who answers: sticky by entity, in the declared share, as switched; and what is counted."""

from collections import Counter
from pathlib import Path

import pytest

from mlops_assets.serving.routing import Arm, Router, TrafficStore, counts_folder, plan, read_counts
from mlops_assets.serving.routing.traffic import FamilyTraffic
from tests.serving.routing.conftest import Clock, Events, Family, make_family

KEYS = [f"flight-{number}" for number in range(20_000)]


def canaries(router: Router, family: Family) -> set[str]:
    return {key for key in KEYS if router.arm(family, key, "r") == "canary"}


def counted(folder: Path, family: Family) -> dict[str, tuple[int, float]]:
    experiment = plan(family.contest, FamilyTraffic()).canary
    assert experiment is not None
    counts = read_counts(counts_folder(folder, experiment))
    return {str(a): (c.failures.count, c.failures.total) for a, c in counts.items()}


def test_without_a_canary_the_champion_answers_everything(router: Router) -> None:
    assert canaries(router, make_family()) == set()
    assert canaries(router, make_family({}, challenger=None)) == set()


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_the_share_is_met(router: Router, share: float) -> None:
    got = len(canaries(router, make_family({"share": share}))) / len(KEYS)
    assert abs(got - share) < 5 * (share * (1 - share) / len(KEYS)) ** 0.5


def test_an_entity_always_gets_the_same_model_in_every_worker(
    folder: Path, events: Events, router: Router
) -> None:
    family = make_family({"share": 0.1})
    chosen = canaries(router, family)
    other_worker = Router(folder, seed=1, report=events)
    assert canaries(other_worker, make_family({"share": 0.1})) == chosen
    arms = {router.arm(family, KEYS[0], f"request-{n}") for n in range(100)}
    assert len(arms) == 1


def test_a_greater_share_keeps_those_that_were_chosen(router: Router) -> None:
    few = canaries(router, make_family({"share": 0.05}))
    assert few < canaries(router, make_family({"share": 0.2}))


def test_another_challenger_or_seed_chooses_others(
    router: Router, folder: Path, events: Events
) -> None:
    chosen = canaries(router, make_family({"share": 0.1}))
    for others in (
        canaries(router, make_family({"share": 0.1}, challenger=8)),
        canaries(Router(folder, seed=2, report=events), make_family({"share": 0.1})),
    ):
        assert 0.05 < len(chosen & others) / len(chosen) < 0.15  # as by accident


def test_without_an_entity_requests_are_drawn(router: Router) -> None:
    family = make_family({"share": 0.5})
    arms = Counter(router.arm(family, None, f"request-{n}") for n in range(1_000))
    assert 400 < arms["canary"] < 600


def test_any_text_can_be_a_key(router: Router) -> None:
    family = make_family({"share": 0.5})
    for key in ("", "é", "\udcff", "x" * 100_000, "a\0b"):
        assert router.arm(family, key, "r") in {"champion", "canary"}


def test_switches_are_noticed_within_a_second(
    router: Router, store: TrafficStore, clock: Clock
) -> None:
    family = make_family()
    assert canaries(router, family) == set()
    assert not router.mirrors(family)
    store.start_canary("delay", by="anna", share=0.2)
    store.switch_shadow("delay", on=True, by="anna")
    clock.at += 1
    assert len(canaries(router, family)) > 0
    assert router.mirrors(family)
    store.stop_canary("delay", by="anna")
    clock.at += 1
    assert canaries(router, family) == set()


def test_a_file_that_became_wrong_changes_nothing_and_is_reported(
    router: Router, store: TrafficStore, clock: Clock, events: Events
) -> None:
    family = make_family({"share": 0.2})
    store.stop_canary("delay", by="anna")
    clock.at += 1
    assert canaries(router, family) == set()
    for harm in (lambda: store.path.write_text("{"), store.path.unlink):
        harm()
        clock.at += 1
        assert canaries(router, family) == set()  # what was stopped stays stopped
    assert events.kinds == ["traffic_unreadable"] * 2


def test_outcomes_of_all_workers_add_up(folder: Path, events: Events) -> None:
    family = make_family({"max_latency_ms": 100})
    for _ in range(3):
        router = Router(folder, seed=1, report=events)
        router.arm(family, "x", "r")
        router.outcome(family, "champion", failed=False, seconds=0.01)
        router.outcome(family, "canary", failed=True, seconds=0.01)
        router.outcome(family, "canary", failed=False, seconds=0.2)  # too slow is a failure too
        router.outcome(family, "canary", failed=False, seconds=0.1)
        router.close()
    assert counted(folder, family) == {"champion": (3, 0.0), "canary": (9, 6.0)}


def test_a_request_under_way_when_the_models_change_is_not_counted(
    router: Router, folder: Path
) -> None:
    before, after = make_family({}), make_family({}, champion=8)
    router.arm(before, "x", "r")
    router.arm(after, "y", "r")
    router.outcome(before, "champion", failed=True, seconds=0)
    assert counted(folder, after)["champion"] == (0, 0.0)
    assert counted(folder, before)["champion"] == (0, 0.0)


def test_without_a_canary_nothing_is_counted(router: Router, folder: Path) -> None:
    family = make_family()
    router.outcome(family, router.arm(family, "x", "r"), failed=True, seconds=9)
    assert not folder.exists()


def test_a_canary_that_cannot_be_counted_answers_nothing_and_says_so(
    router: Router, folder: Path, events: Events
) -> None:
    folder.mkdir()
    (folder / "canary").write_text("in the way")
    family = make_family({"share": 0.5})
    assert canaries(router, family) == set()
    assert events.kinds == ["canary_not_counted"]
    assert "delay/7" in events.messages[0]


def test_arms_are_named_as_the_log_names_them() -> None:
    assert [str(arm) for arm in Arm] == ["champion", "canary"]
