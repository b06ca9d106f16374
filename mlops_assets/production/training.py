"""Training a family: the acts of it, and all of them one after the other.

What one step of a training does is a function here, so that the assets of a graph, which show and
check each of them, and whoever trains in one go do exactly the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import TableVersion
from mlops_assets.production.comparing import chosen_candidate, members_of
from mlops_assets.production.documenting import add_to_report, card_folder, describe, explain
from mlops_assets.production.platform import Platform
from mlops_assets.production.studies import SearchMissingError, chosen_parameters, run_search
from mlops_assets.training.family import CandidateDeclaration, ModelFamily
from mlops_assets.training.training_set import build_training_set, published_training_set
from mlops_assets.transform.project import project_at

if TYPE_CHECKING:
    from mlops_assets.registry import LoggedCandidate, ModelVersion, Outcome, Provenance
    from mlops_assets.training.estimators import Progress

Say = Callable[[str], None]
"""Told what is done next."""


@dataclass(frozen=True)
class TrainedFamily:
    """What came of training a family.

    Attributes
    ----------
    training_set
        What was learnt from.
    challenger
        The best candidate, as it was registered.
    outcome
        What the gate decided, and who serves now.
    seconds
        Wall-clock seconds it took.
    """

    training_set: TableVersion
    challenger: "ModelVersion"
    outcome: "Outcome"
    seconds: float

    @property
    def promoted(self) -> bool:
        """Whether the challenger serves now."""
        return self.outcome.decision.promote


def provenance_of(platform: Platform) -> "Provenance":
    """Return the code and the environment that a model of this deployment is made with."""
    from mlops_assets.registry import collect_provenance

    settings = platform.settings
    return collect_provenance(
        settings.project_root, project_at(settings.dbt_project_dir).manifest_path
    )


def train_declared(
    platform: Platform,
    family: ModelFamily,
    declaration: CandidateDeclaration,
    training_set: TableVersion,
    progress: "Progress | None" = None,
) -> "tuple[LoggedCandidate, str]":
    """Train one declared candidate, with the parameters that its newest search found, and log it.

    Parameters
    ----------
    platform, family, declaration, training_set
        Where, what, and from what.
    progress
        Told about each iteration.

    Returns
    -------
    tuple
        The candidate as MLflow holds it, and the name of the search; empty without one.

    Raises
    ------
    SearchMissingError
        When a search is declared and there is none.
    CandidatesMissingError
        When it is an ensemble, and a member is not trained yet.
    mlops_assets.training.estimators.EstimatorError
        When the algorithm cannot be found or refuses to fit.
    mlops_assets.training.candidate.TrainingError
        When a feature gives the label away.
    """
    from mlops_assets.training.candidate import train_candidate
    from mlops_assets.training.dataset import load_parts

    settings = platform.settings
    parts = load_parts(platform.lake, training_set, family)
    chosen, study = chosen_parameters(platform, family, declaration, parts, training_set)
    trained = train_candidate(
        family,
        chosen,
        parts,
        training_set,
        seed=settings.seed,
        threads=settings.threads,
        members=members_of(platform, family, chosen, training_set),
        study=study,
        progress=progress,
    )
    inputs = published_training_set(platform.lake, training_set).inputs
    logged = platform.registry.log_candidate(
        trained, family, parts["test"], inputs, provenance_of(platform)
    )
    return logged, study


def challenge(
    platform: Platform, family: ModelFamily, training_set: TableVersion
) -> "tuple[LoggedCandidate, ModelVersion]":
    """Register the best candidate on validation, and let it wait for the gate."""
    from mlops_assets.registry import set_challenger

    chosen = chosen_candidate(platform, family, training_set)
    version = platform.registry.register(chosen, family)
    set_challenger(platform.registry, version)
    return chosen, version


def let_gate_decide(
    platform: Platform, family: ModelFamily, challenger: "ModelVersion", *, actor: str
) -> "Outcome":
    """Make the challenger champion if the gate says so, and write the decision into its card.

    Parameters
    ----------
    platform, family, challenger
        Where, whose, and who wants to serve; it has a model card.
    actor
        Who asks; it goes into the ledger.

    Raises
    ------
    mlops_assets.registry.RegistryError
        When it has no card, does not load, or the champion has changed meanwhile.
    """
    from mlops_assets.registry import judge, promote
    from mlops_assets.registry.card import attach_card, judged, read_card, write_card
    from mlops_assets.registry.ledger import read as read_ledger

    registry = platform.registry
    decision = judge(registry, family, challenger, seed=platform.settings.seed)
    outcome = promote(registry, decision, actor=actor, reason=decision.summary)
    ledger = read_ledger(platform.lake, family.name)
    card = judged(read_card(registry, challenger), decision, ledger)
    attach_card(registry, card)
    write_card(card, card_folder(platform, challenger))
    return outcome


def train_family(
    platform: Platform,
    family: ModelFamily,
    views: FeatureRegistry,
    *,
    actor: str,
    as_of: datetime | None = None,
    progress: "Progress | None" = None,
    say: Say = lambda _: None,
) -> TrainedFamily:
    """Train a family and let the gate decide, as a run of its training job does.

    A search that was never run is run first; otherwise the parameters are those that the newest
    one found.

    Parameters
    ----------
    platform, family, views
        Where, whose, and the features there are.
    actor
        Who asks; it goes into the ledger.
    as_of
        Nothing that became known later is learnt from; with a zone. Default: now.
    progress
        Told about each iteration of a fit or a search.
    say
        Told what is done next.

    Raises
    ------
    TrainingSetError
        When there is nothing fit to learn from or to judge on.
    mlops_assets.training.explaining.AdditivityError, mlops_assets.registry.card.CardIncompleteError
        When the challenger cannot be explained or documented; nobody is promoted then.
    """
    from mlops_assets.training.candidate import ENSEMBLE

    began = monotonic()
    say("building the training set")
    training_set = build_training_set(platform.lake, family, views, as_of=as_of).version
    # An ensemble combines the others, so it comes after them.
    for declared in sorted(family.candidates, key=lambda one: one.algorithm == ENSEMBLE):
        say(f"training {declared.name}")
        try:
            train_declared(platform, family, declared, training_set, progress)
        except SearchMissingError:
            run_search(platform, family, declared, training_set, progress, say)
            train_declared(platform, family, declared, training_set, progress)
    _, challenger = challenge(platform, family, training_set)
    say(f"explaining {challenger}")
    explained = explain(platform, family, views, challenger)
    add_to_report(platform, family, challenger, explained)
    describe(platform, family, views, challenger, explained)
    say(f"the gate judges {challenger}")
    outcome = let_gate_decide(platform, family, challenger, actor=actor)
    return TrainedFamily(training_set, challenger, outcome, monotonic() - began)
