"""Under load, with champions that change, workers that are killed and a full disk."""

from pathlib import Path

import pytest

from tests.runs.soak import Troubles, differences, logged, soak
from tests.serving.conftest import world  # noqa: F401 - the fixture
from tests.serving.world import World


@pytest.mark.timeout(300)
def test_every_answer_is_logged_once_and_was_given_by_a_whole_model(
    world: World,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    outcome, settings = soak(world, tmp_path / "home", Troubles(6_000, switches=2, kills=3))

    assert differences(world, outcome, logged(settings)) == []
    assert outcome.statuses[503] > 0, "the disk was never full for anybody"
    assert set(outcome.statuses) == {200, 503}
    assert {version for _, version, _ in outcome.answered.values()} == {1, 2}
