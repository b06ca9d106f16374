"""What is switched on the head holds elsewhere, and what is counted elsewhere is judged there."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mlops_assets.serving.on_ray.switches import SwitchesOfHead, switches, take_counts
from mlops_assets.serving.routing.counts import Arm, ArmCounter, read_counts
from mlops_assets.serving.security import Scope, StateFileError, TokenStore
from mlops_assets.serving.security.state_file import replace_text

EXPERIMENT = "canary/delay/7-beside-6"


class Head:
    """The head as another machine asks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.got: list[Mapping[str, bytes]] = []
        self.is_away = False

    def exchange(self, counts: Mapping[str, bytes]) -> Mapping[str, str]:
        if self.is_away:
            raise StateFileError("the head is away")
        self.got.append(counts)
        take_counts(self.folder, counts)
        return switches(self.folder)


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return Head(tmp_path / "head")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "other"


def failures(folder: Path) -> float:
    return read_counts(folder / EXPERIMENT)[Arm.canary].failures.total


def test_counts_of_every_machine_add_up_once(head: Head, other: Path) -> None:
    here, there = ArmCounter(head.folder / EXPERIMENT), ArmCounter(other / EXPERIMENT)
    watch = SwitchesOfHead(other, head.exchange)
    here.request(Arm.canary, failed=True)
    there.request(Arm.canary, failed=True)
    watch.look([])
    assert failures(head.folder) == 2
    watch.look([])
    assert failures(head.folder) == 2
    assert not head.got[-1], "nothing was counted since, so nothing is sent"
    there.request(Arm.canary, failed=True)
    watch.look([])
    assert failures(head.folder) == 3


def test_a_token_of_the_head_is_good_elsewhere_until_it_is_revoked(head: Head, other: Path) -> None:
    here, there = TokenStore(head.folder / "tokens.json"), TokenStore(other / "tokens.json")
    watch = SwitchesOfHead(other, head.exchange)
    watch.look([])
    assert not (other / "tokens.json").exists()
    here.create("shop", {Scope.predict})
    watch.look([])
    assert [token.name for token in there.list()] == ["shop"]
    here.revoke("shop")
    watch.look([])
    assert not there.list()


def test_while_the_head_is_away_what_it_said_last_holds(head: Head, other: Path) -> None:
    replace_text(head.folder / "traffic.json", "{}")
    watch = SwitchesOfHead(other, head.exchange)
    watch.look([])
    ArmCounter(other / EXPERIMENT).request(Arm.canary, failed=True)
    head.is_away = True
    with pytest.raises(StateFileError, match="away"):
        watch.look([])
    assert (other / "traffic.json").read_text() == "{}"
    head.is_away = False
    watch.look([])
    assert failures(head.folder) == 1, "what was counted meanwhile is sent"
