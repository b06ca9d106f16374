"""Making a version that does harm: a candidate that has learnt upside-down labels."""

from dataclasses import replace
from typing import TYPE_CHECKING

from mlops_assets.production.platform import Platform
from mlops_assets.production.training import provenance_of
from mlops_assets.training.candidate import train_candidate
from mlops_assets.training.dataset import Part, load_parts
from mlops_assets.training.family import CandidateDeclaration, ModelFamily
from mlops_assets.training.training_set import published_training_set

if TYPE_CHECKING:
    from mlops_assets.registry import ModelVersion

NAME = "upside_down"


def make_bad_model(
    platform: Platform, family: ModelFamily, champion: "ModelVersion"
) -> "ModelVersion":
    """Train a linear model on upside-down labels, yes for no, and register it.

    Parameters
    ----------
    platform, family
        Where and whose.
    champion
        Whose training set it learns from.
    """
    settings, registry = platform.settings, platform.registry
    parts = load_parts(platform.lake, champion.training_set, family)
    wrong = {name: _upside_down(part) for name, part in parts.items()}
    trained = train_candidate(
        family,
        CandidateDeclaration(algorithm="linear", name=NAME),
        wrong,
        champion.training_set,
        seed=settings.seed,
        threads=settings.threads,
    )
    inputs = published_training_set(platform.lake, champion.training_set).inputs
    logged = registry.log_candidate(trained, family, parts["test"], inputs, provenance_of(platform))
    return registry.register(logged, family)


def _upside_down(part: Part) -> Part:
    return replace(part, label=part.label.max() + part.label.min() - part.label)
