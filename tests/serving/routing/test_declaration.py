"""What may be declared about serving, and what is said of the rest."""

import pytest

from mlops_assets.declaration import find_problems
from mlops_assets.training.family_serving import CanaryDeclaration, ServingDeclaration


def test_nothing_declared_is_the_careful_choice() -> None:
    serving = ServingDeclaration()
    assert (serving.shadow, serving.canary) == (False, None)
    assert CanaryDeclaration().share == 0.05


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"shadows": True}, "shadows: unknown key; did you mean 'shadow'"),
        ({"unseen_categories": "ignore"}, "unseen_categories: 'ignore' is not allowed"),
        ({"canary": {"share": 0.6}}, "canary.share: 0.6 is not allowed"),
        ({"canary": {"share": 0}}, "canary.share: 0 is not allowed"),
        ({"canary": {"alpha": 0}}, "canary.alpha: 0 is not allowed"),
        ({"canary": {"max_loss_increase": 1}}, "canary.max_loss_increase: 1 is not allowed"),
        ({"canary": True}, "canary: True is not allowed"),
    ],
)
def test_what_is_not_allowed_is_named_with_its_value(
    declared: dict[str, object], said: str
) -> None:
    [problem] = find_problems(ServingDeclaration, declared)
    assert str(problem).startswith(said)
