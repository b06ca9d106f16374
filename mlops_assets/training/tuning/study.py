"""The persistent study of one search: which trials there are, and what becomes of killed ones.

A trial is in the study from the moment it begins. How it went is written as one attribute, its
outcome, just before Optuna is told that it ended. So after a kill every trial is one of: ended;
running with an outcome, which is then told; running without one, which is marked as failed and
repeated once, with the same parameters, in the same slot.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial, Trial
from optuna.trial import TrialState as OptunaState

from mlops_assets.training.family_search import SearchDeclaration
from mlops_assets.training.search_space import distributions, inside, suggest
from mlops_assets.training.tuning.journal import Journal
from mlops_assets.training.tuning.result import Outcome, TrialRecord, TrialState, TuningError
from mlops_assets.training.tuning.sampler import (
    DECLARED,
    RETRY_OF,
    SLOT,
    SlotSampler,
    slot_of,
)

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_OUTCOME = "outcome"
_HOPELESS = "hopeless"
_KILLED = "the search was killed while this trial ran"

_COMPLETE_BEFORE_PRUNING = 5
_UNPRUNED_SHARE = 1 / 3  # of the iterations: a small learning rate is behind at first
_FEWEST_FOR_IMPORTANCE = 4


class SearchStudy:
    """A study that is open for searching; `open_study` gives one."""

    def __init__(
        self,
        study: optuna.Study,
        storage: "BaseStorage",
        journal: Journal | None,
        search: SearchDeclaration,
        sampler: SlotSampler,
    ) -> None:
        self._study = study
        self._storage = storage
        self._journal = journal
        self._search = search
        self._sampler = sampler
        self._sign = 1.0 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1.0

    def recover(self) -> None:
        """Settle what an earlier search left behind, and queue what is to be tried first."""
        for trial in self._trials(OptunaState.RUNNING):
            stored = trial.user_attrs.get(_OUTCOME)
            outcome = (
                Outcome(TrialState.FAILED, reason=_KILLED, interrupted=True)
                if stored is None
                else _outcome(trial)
            )
            self._tell(trial.number, outcome, write=stored is None)
        if not self._trials():
            self._study.enqueue_trial({}, user_attrs={DECLARED: True})
        repeated = {trial.user_attrs.get(RETRY_OF) for trial in self._trials()}
        for trial in self._trials(OptunaState.FAIL):
            if (
                _outcome(trial).interrupted
                and RETRY_OF not in trial.user_attrs
                and trial.number not in repeated
            ):
                self._repeat(trial)

    def begin(self) -> tuple[Trial, Mapping[str, Any]]:
        """Begin the next trial and return it with what it changes in the declared parameters."""
        trial = self._study.ask()
        if trial.user_attrs.get(DECLARED):
            return trial, {}
        return trial, {
            name: suggest(trial, name, declared) for name, declared in self._search.space.items()
        }

    def report(self, trial: Trial, iteration: int, total: int, loss: float) -> bool:
        """Note a trial's validation loss; return whether it should go on."""
        trial.report(self._sign * loss, iteration)
        return iteration < _UNPRUNED_SHARE * total or not trial.should_prune()

    def finish(
        self, trial: Trial, outcome: Outcome, fitted: Mapping[str, Any] | None = None
    ) -> TrialRecord:
        """End a trial.

        Parameters
        ----------
        trial, outcome
            Which, and how.
        fitted
            What the searched parameters were, for the trial of the declared ones.
        """
        if trial.user_attrs.get(DECLARED) and fitted:
            known = inside(self._search, fitted)
            self._sampler.reveal(known)
            for name in known:
                suggest(trial, name, self._search.space[name])
        self._tell(trial.number, outcome, write=True)
        return _record(self._study.get_trials(deepcopy=False)[trial.number])

    def give_up(self) -> None:
        """Remember that no trial can succeed, so that the next search begins anew."""
        self._study.set_user_attr(_HOPELESS, value=True)

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """All trials that have ended."""
        return tuple(_record(trial) for trial in self._trials() if trial.state.is_finished())

    @property
    def ended(self) -> int:
        """How many trials have ended; those that are to be repeated do not count."""
        trials = self._trials()
        repeated = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        return sum(
            trial.state.is_finished()
            and trial.number not in repeated
            and (not _outcome(trial).interrupted or RETRY_OF in trial.user_attrs)
            for trial in trials
        )

    @property
    def importance(self) -> dict[str, float]:
        """Share of each parameter in how good a trial is; empty while there are too few."""
        # The declared trial may lack a parameter; compared are trials that have them all.
        whole = [
            trial
            for trial in self._trials(OptunaState.COMPLETE)
            if trial.params.keys() >= self._search.space.keys()
        ]
        if len({trial.value for trial in whole}) < _FEWEST_FOR_IMPORTANCE:
            return {}
        compared = optuna.create_study(direction=self._study.direction)
        compared.add_trials(whole)
        found = optuna.importance.get_param_importances(compared)
        return {name: float(share) for name, share in found.items()}

    def _trials(self, *states: OptunaState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _repeat(self, trial: FrozenTrial) -> None:
        whole = trial.params.keys() >= self._search.space.keys()
        self._study.enqueue_trial(
            # Killed before it had all its parameters, it draws the same ones in the same slot.
            trial.params if whole else {},
            user_attrs={
                RETRY_OF: trial.number,
                SLOT: slot_of(self._study, trial),
                DECLARED: bool(trial.user_attrs.get(DECLARED)),
            },
        )

    def _tell(self, number: int, outcome: Outcome, *, write: bool) -> None:
        if write:
            study_id = self._storage.get_study_id_from_name(self._study.study_name)
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
            self._storage.set_trial_user_attr(trial_id, _OUTCOME, asdict(outcome))
        state = {
            TrialState.COMPLETE: OptunaState.COMPLETE,
            TrialState.PRUNED: OptunaState.PRUNED,
            TrialState.FAILED: OptunaState.FAIL,
        }[outcome.state]
        self._study.tell(number, outcome.value, state)
        if self._journal is not None:
            self._journal.sync()


@contextmanager
def open_study(
    storage: Path | str,
    name: str,
    search: SearchDeclaration,
    *,
    greater_is_better: bool,
    seed: int,
    parallel: bool,
) -> Iterator[SearchStudy]:
    """Open a study for searching, make it where there is none, and settle what was left behind.

    Parameters
    ----------
    storage
        A folder, in which the study has a file of its own; or the URL of a database, as SQLAlchemy
        writes it. A file is locked while it is open. A database is not: there the caller sees to it
        that a study is searched by one process at a time.
    name
        Of the study.
    search
        What is searched.
    greater_is_better
        Direction of the metric.
    seed, parallel
        For the sampler.

    Raises
    ------
    TuningError
        When it cannot be opened, or another search has it open.
    """
    # Optuna announces every study and trial on standard error; the caller reports in its own way.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with ExitStack() as stack:
        journal = None
        if isinstance(storage, str):
            backend = _database(storage)
        else:
            journal = stack.enter_context(Journal(storage / f"{name}.journal"))
            backend = optuna.storages.JournalStorage(journal)
        sampler = SlotSampler(distributions(search), seed, parallel=parallel)
        pruner = MedianPruner(n_startup_trials=_COMPLETE_BEFORE_PRUNING)

        def create() -> optuna.Study:
            return optuna.create_study(
                storage=backend,
                study_name=name,
                sampler=sampler,
                pruner=pruner,
                direction="maximize" if greater_is_better else "minimize",
                load_if_exists=True,
            )

        study = create()
        if study.user_attrs.get(_HOPELESS):
            optuna.delete_study(study_name=name, storage=backend)
            study = create()
        opened = SearchStudy(study, backend, journal, search, sampler)
        opened.recover()
        yield opened


def _database(url: str) -> "BaseStorage":
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        return optuna.storages.RDBStorage(url)
    except (ArgumentError, SQLAlchemyError, ImportError) as error:
        raise TuningError(
            f"the studies' storage cannot be opened: {error}. Give a folder, or a database URL "
            "such as postgresql://user@host/database"
        ) from error


def _outcome(trial: FrozenTrial) -> Outcome:
    stored = dict(trial.user_attrs[_OUTCOME])
    return Outcome(**{**stored, "state": TrialState(stored["state"])})


def _record(trial: FrozenTrial) -> TrialRecord:
    outcome = _outcome(trial)
    started = trial.datetime_start
    assert started is not None  # noqa: S101 - a trial that has ended had begun
    return TrialRecord(
        number=trial.number,
        state=outcome.state,
        value=outcome.value,
        parameters=dict(trial.params),
        declared=bool(trial.user_attrs.get(DECLARED)),
        seconds=outcome.seconds,
        iterations=outcome.iterations,
        loss=outcome.loss,
        reason=outcome.reason,
        started_at=started.astimezone(UTC),
    )
