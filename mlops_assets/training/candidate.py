"""Training one candidate: fit, choose the threshold, evaluate on validation and on test.

The validation part decides when to stop, the threshold, and which candidate is best. The test part
is measured and decides nothing here; the gate uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from time import perf_counter

from mlops_assets.lake import TableVersion
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator, FitOptions, Progress, estimator_class
from mlops_assets.training.evaluation import Evaluation, choose_threshold, evaluate
from mlops_assets.training.family import CandidateDeclaration, ModelFamily

_TOO_GOOD = 0.999


class TrainingError(RuntimeError):
    """Training stopped because its result cannot be right; the message says why."""


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
        The fitted model.
    learnt
        From what and how.
    threshold
        Chosen on validation.
    validation, test
        How it does.
    seconds
        Wall-clock seconds of fitting.
    """

    family: str
    declaration: CandidateDeclaration
    estimator: Estimator
    learnt: Learnt
    threshold: float
    validation: Evaluation
    test: Evaluation
    seconds: float


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
    progress: Progress | None = None,
) -> Candidate:
    """Train one candidate and evaluate it.

    Parameters
    ----------
    family, declaration
        What to train.
    parts
        `train`, `validation` and `test`, as `load_part` reads them, of one training-set version.
    training_set
        That version.
    seed
        The deployment's; the family's own wins.
    threads
        For fitting.
    progress
        Told about each iteration.

    Raises
    ------
    EstimatorError
        When the algorithm cannot be found or refuses to fit.
    TrainingError
        When the model ranks the validation part all but perfectly: a feature gives the label away.
    """
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    seed = seed if family.seed is None else family.seed
    begun = perf_counter()
    estimator = estimator_class(declaration.algorithm).fit(
        train, validation, declaration.parameters, FitOptions(seed, threads, progress)
    )
    seconds = perf_counter() - begun
    resampling = resampling_for(family, seed)
    answers = estimator.predict(validation.features)
    threshold = choose_threshold(validation, answers, family.threshold)
    on_validation = evaluate(validation, answers, family, resampling, threshold)
    _refuse_leak(family, estimator, validation, on_validation)
    return Candidate(
        family=family.name,
        declaration=declaration,
        estimator=estimator,
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
        test=evaluate(test, estimator.predict(test.features), family, resampling, threshold),
        seconds=seconds,
    )


def train_baseline(family: ModelFamily, parts: Mapping[str, Part]) -> Estimator:
    """Fit the trivial model that a first champion must beat, as the family's gate declares it."""
    baseline = family.gate.baseline
    parameters = {"by": list(baseline.by), "smoothing": baseline.smoothing}
    return estimator_class("baseline").fit(
        parts["train"], parts["validation"], parameters, FitOptions(seed=0, threads=1)
    )


def _refuse_leak(
    family: ModelFamily, estimator: Estimator, validation: Part, found: Evaluation
) -> None:
    area = found.metrics["roc_auc"].value
    if area is None or area <= _TOO_GOOD:
        return
    sample = validation.features.head(2000)
    suspects = list(estimator.explain(sample).importance)[:3]
    raise TrainingError(
        f"{family.name}: ROC AUC {area:.4f} on validation is too good to be true. The features "
        f"that weigh most are {', '.join(suspects)}; check that each is known at prediction time"
    )
