"""Training one candidate: fit, choose the threshold, evaluate on validation and on test.

The validation part decides when to stop, the threshold, and which candidate is best. The test part
is measured and decides nothing here; the gate uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from mlops_assets.lake import TableVersion
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.dataset import Part, join_parts
from mlops_assets.training.estimators import Estimator, FitOptions, Progress, estimator_class
from mlops_assets.training.evaluation import Evaluation, choose_threshold, evaluate
from mlops_assets.training.family import CandidateDeclaration, ModelFamily

ENSEMBLE = "ensemble"
"""The algorithm that is made of other candidates."""


class TrainingError(RuntimeError):
    """Training stopped because its result cannot be right; the message says why."""


@dataclass(frozen=True)
class Member:
    """A trained candidate that an ensemble may combine.

    Attributes
    ----------
    estimator
        The model, as it would serve.
    validation_answers
        To the validation part, given before the model saw it; shape as the task's answers.
    run_id
        MLflow's name of its run.
    """

    estimator: Estimator
    validation_answers: NDArray[np.float64]
    run_id: str


@dataclass(frozen=True)
class Learnt:
    """From what and how a model learnt; enough to learn it again.

    Attributes
    ----------
    training_set
        The version of the training set.
    first_day, last_day
        Calendar days of the rows that had a part in it, validation included.
    train_rows, validation_rows
        How many there were.
    seed, threads
        Both decide the result.
    """

    training_set: TableVersion
    first_day: date
    last_day: date
    train_rows: int
    validation_rows: int
    seed: int
    threads: int


@dataclass(frozen=True)
class Candidate:
    """A trained model that competes for its family.

    Attributes
    ----------
    family, declaration
        What it is.
    estimator
        The model as it would serve.
    learnt
        From what and how.
    threshold
        Chosen on validation; None for a task without one.
    validation, test
        How it does.
    seconds
        Wall-clock seconds of fitting, the second fit included.
    study
        The search that found its parameters; empty without one.
    members
        Of an ensemble: name of each member to its MLflow run.
    """

    family: str
    declaration: CandidateDeclaration
    estimator: Estimator
    learnt: Learnt
    threshold: float | None
    validation: Evaluation
    test: Evaluation
    seconds: float
    study: str = ""
    members: Mapping[str, str] = field(default_factory=dict)


def resampling_for(family: ModelFamily, seed: int) -> Resampling:
    """Return how intervals are made for a family, given the deployment's seed."""
    return Resampling(
        draws=family.gate.draws,
        seed=seed if family.seed is None else family.seed,
        confidence=family.gate.confidence,
    )


def train_candidate(
    family: ModelFamily,
    declaration: CandidateDeclaration,
    parts: Mapping[str, Part],
    training_set: TableVersion,
    *,
    seed: int,
    threads: int,
    members: Mapping[str, Member] | None = None,
    study: str = "",
    progress: Progress | None = None,
) -> Candidate:
    """Train one candidate and evaluate it.

    It learns from the training part while validation decides when to stop, and is judged on
    validation. Unless the declaration says `refit: false` it then learns again from both parts,
    with what validation decided, and that model answers the test part.

    Parameters
    ----------
    family, declaration
        What to train, with the parameters that a search found among the declared ones.
    parts
        `train`, `validation` and `test`, as `load_parts` reads them, of one training-set version.
    training_set
        That version.
    seed
        The deployment's; the family's own wins.
    threads
        For fitting.
    members
        For an ensemble: the trained candidates it may combine, by name.
    study
        Name of the search that found the parameters; empty without one.
    progress
        Told about each iteration.

    Raises
    ------
    EstimatorError
        When the algorithm cannot be found or refuses to fit.
    TrainingError
        When the model knows the validation part all but perfectly: a feature gives the label away.
    """
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    seed = seed if family.seed is None else family.seed
    options = FitOptions(seed, threads, progress)
    begun = perf_counter()
    if declaration.algorithm == ENSEMBLE:
        final, answers = _combine(family, declaration, validation, members or {}, options)
        judged: Estimator = final
    else:
        judged = estimator_class(declaration.algorithm).fit(
            train, validation, declaration.parameters, options
        )
        answers = judged.predict(validation.features)
        final = judged
        if declaration.refit:
            final = judged.refit(join_parts(train, validation), options)
    seconds = perf_counter() - begun
    resampling = resampling_for(family, seed)
    threshold = choose_threshold(validation, answers, family.threshold)
    on_validation = evaluate(validation, answers, family, resampling, threshold)
    _refuse_leak(family, judged, validation, on_validation)
    return Candidate(
        family=family.name,
        declaration=declaration,
        estimator=final,
        learnt=Learnt(
            training_set=training_set,
            first_day=min(part.days.min() for part in (train, validation)).astype(date),
            last_day=max(part.days.max() for part in (train, validation)).astype(date),
            train_rows=len(train),
            validation_rows=len(validation),
            seed=seed,
            threads=threads,
        ),
        threshold=threshold,
        validation=on_validation,
        test=evaluate(test, final.predict(test.features), family, resampling, threshold),
        seconds=seconds,
        study=study,
        members={name: member.run_id for name, member in (members or {}).items()},
    )


def train_baseline(family: ModelFamily, parts: Mapping[str, Part]) -> Estimator:
    """Fit the trivial model that a first champion must beat, as the family's gate declares it."""
    baseline = family.gate.baseline
    parameters = {"by": list(baseline.by), "smoothing": baseline.smoothing}
    return estimator_class("baseline").fit(
        parts["train"], parts["validation"], parameters, FitOptions(seed=0, threads=1)
    )


def _combine(
    family: ModelFamily,
    declaration: CandidateDeclaration,
    validation: Part,
    members: Mapping[str, Member],
    options: FitOptions,
) -> tuple[Estimator, NDArray[np.float64]]:
    """Weigh the members by their answers to validation.

    Those answers are of models that had not seen validation; the members that the ensemble keeps
    are the final ones.
    """
    from mlops_assets.training.estimators.ensemble import Ensemble

    names = family.members(declaration)
    if missing := [name for name in names if name not in members]:
        raise TrainingError(
            f"{family.name}/{declaration.name}: members {', '.join(missing)} are not trained yet"
        )
    answers = {name: members[name].validation_answers for name in names}
    ensemble = Ensemble.combine(
        {name: members[name].estimator for name in names},
        validation,
        answers,
        declaration.parameters,
        options,
    )
    return ensemble, ensemble.pool(answers)


def _refuse_leak(
    family: ModelFamily, estimator: Estimator, validation: Part, found: Evaluation
) -> None:
    name, limit = validation.task.too_good
    value = found.metrics[name].value
    if value is None or value <= limit:
        return
    sample = validation.features.head(2000)
    suspects = list(estimator.explain(sample).importance)[:3]
    raise TrainingError(
        f"{family.name}: {validation.task.metric(name).title} {value:.4f} on validation is too "
        f"good to be true. The features that weigh most are {', '.join(suspects)}; check that each "
        "is known at prediction time"
    )
