"""What holds, from what is deployed, declared and switched; and that a switch is kept."""

from pathlib import Path

import pytest

from mlops_assets.serving.routing import Experiment, TrafficError, TrafficStore, Verdict, plan
from mlops_assets.serving.security import StateFileError
from tests.serving.routing.conftest import Family, make_family


def running(store: TrafficStore, family: Family) -> Experiment | None:
    return plan(family.contest, store.read().of("delay")).canary


def why(store: TrafficStore, family: Family) -> str:
    return plan(family.contest, store.read().of("delay")).canary_why


def test_what_is_declared_holds_until_it_is_switched(store: TrafficStore) -> None:
    plain, declared = make_family(), make_family({"share": 0.1}, shadow=True)
    for family, shadow in ((plain, False), (declared, True)):
        assert plan(family.contest, store.read().of("delay")).shadow is shadow
    assert running(store, plain) is None
    experiment = running(store, declared)
    assert experiment is not None
    assert (experiment.champion, experiment.challenger, experiment.rules.share) == (6, 7, 0.1)

    store.switch_shadow("delay", on=False, by="anna", reason="too slow")
    store.stop_canary("delay", by="anna")
    switched = plan(declared.contest, store.read().of("delay"))
    assert (switched.shadow, switched.canary) == (False, None)
    assert "switched off by anna" in switched.shadow_why
    assert "too slow" in switched.shadow_why
    assert plan(declared.contest, store.read().of("other")).shadow

    store.switch_shadow("delay", on=True, by="ben")
    assert plan(plain.contest, store.read().of("delay")).shadow


def test_a_start_runs_without_a_declaration_and_its_share_wins(store: TrafficStore) -> None:
    store.start_canary("delay", by="anna", share=0.25)
    for family in (make_family(), make_family({"share": 0.1, "alpha": 0.2})):
        experiment = running(store, family)
        assert experiment is not None
        assert experiment.rules.share == 0.25
    assert experiment.rules.alpha == 0.2
    store.start_canary("delay", by="anna")
    again = running(store, make_family({"share": 0.1}))
    assert again is not None
    assert again.rules.share == 0.1


def test_without_a_challenger_nothing_runs(store: TrafficStore) -> None:
    store.start_canary("delay", by="anna")
    alone = make_family({}, shadow=True, challenger=None)
    found = plan(alone.contest, store.read().of("delay"))
    assert (found.shadow, found.canary) == (False, None)
    assert found.shadow_why == found.canary_why == "there is no challenger"


def test_a_stop_holds_for_its_challenger_until_somebody_starts_it_again(
    store: TrafficStore,
) -> None:
    family = make_family({})
    experiment = running(store, family)
    assert experiment is not None
    assert store.conclude(experiment, Verdict.stop_worse, "failed 3 of 4")
    assert not store.conclude(experiment, Verdict.stop_worse, "failed 4 of 5")

    assert running(TrafficStore(store.path), family) is None
    assert "failed 3 of 4" in why(store, family)
    # Also against another champion, such as after a roll-back; but another challenger may try.
    assert running(store, make_family({}, champion=5)) is None
    assert running(store, make_family({"share": 0.2})) is None
    assert running(store, make_family({}, challenger=8)) is not None

    store.start_canary("delay", by="anna")
    again = running(store, family)
    assert again is not None
    assert again.name != experiment.name  # its counts begin anew
    assert store.conclude(again, Verdict.stop_worse, "failed again")
    assert running(store, family) is None


def test_that_it_is_done_stops_nothing(store: TrafficStore) -> None:
    family = make_family({})
    experiment = running(store, family)
    assert experiment is not None
    assert store.conclude(experiment, Verdict.done, "as good")
    assert running(store, family) == experiment
    assert store.conclude(experiment, Verdict.stop_worse, "worse after all")
    assert running(store, family) is None


def test_experiments_that_differ_never_share_their_counts(store: TrafficStore) -> None:
    names = set()
    families = [
        make_family({}),
        make_family({}, champion=5),
        make_family({}, challenger=8),
        make_family({"share": 0.1}),
        make_family({"share": 0.01}),
    ]
    for family in families:
        experiment = running(store, family)
        assert experiment is not None
        names.add(experiment.name)
        assert "/" not in experiment.name
        assert "." not in experiment.name
    assert len(names) == len(families)


@pytest.mark.parametrize("share", [0.0, -0.1, 0.51, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(store: TrafficStore, share: float) -> None:
    with pytest.raises(TrafficError, match=r"at most 0\.5"):
        store.start_canary("delay", by="anna", share=share)
    assert not store.path.exists()


@pytest.mark.parametrize("text", ["{", '{"format": 9}', '{"families": {"delay": {"canary": 1}}}'])
def test_a_wrong_file_is_refused_and_left_as_it_is(
    store: TrafficStore, folder: Path, text: str
) -> None:
    folder.mkdir()
    store.path.write_text(text)
    with pytest.raises(StateFileError, match="no switches of traffic"):
        store.stop_canary("delay", by="anna")
    assert store.path.read_text() == text
