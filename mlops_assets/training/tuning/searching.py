"""The search itself: what to try is asked of the study, fits are left to workers."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from mlops_assets.lake.scratch import private_folder
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Progress
from mlops_assets.training.family import CandidateDeclaration, ModelFamily
from mlops_assets.training.family_search import SearchDeclaration
from mlops_assets.training.metrics import Metric, MetricError
from mlops_assets.training.search_space import share_of_days
from mlops_assets.training.tuning.messages import (
    Begun,
    Crashed,
    Job,
    Reply,
    Report,
    Scored,
    Setup,
    Stopped,
)
from mlops_assets.training.tuning.pool import Pool, Worker, WorkerDiedError, wait_for
from mlops_assets.training.tuning.result import (
    Outcome,
    SearchResult,
    TrialRecord,
    TrialState,
    TuningError,
    best_trial,
)
from mlops_assets.training.tuning.shared import write_shared

if TYPE_CHECKING:
    from optuna.trial import Trial

    from mlops_assets.training.tuning.study import SearchStudy

OnTrial = Callable[[TrialRecord], None]

_HOPELESS_AFTER = 10  # trials without a single success


def search(
    family: ModelFamily,
    declaration: CandidateDeclaration,
    train: Part,
    validation: Part,
    *,
    storage: Path | str,
    study_name: str,
    seed: int,
    threads: int,
    trials: int | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
    on_trial: OnTrial | None = None,
) -> SearchResult:
    """Search a candidate's parameters, going on where an earlier search of the study stopped.

    The first trial has the declared parameters, so the result is never worse than they are, on
    validation. A trial whose validation loss is worse than the median of the earlier ones at the
    same iteration is stopped. One that fails, dies or takes too long is recorded as failed, and the
    search goes on.

    With one worker, the trials depend on the seed, the threads and the data alone, unless time
    limits cut them: a search that was killed and resumed ends with the values of one that was not.
    With several workers they also depend on which ends first.

    Parameters
    ----------
    family, declaration
        The candidate; it must declare a search.
    train, validation
        What a trial learns from, and what decides. There is no way to hand over the test part.
    storage
        Folder for the studies' files, or URL of a database for them.
    study_name
        As `name_study` gives it.
    seed
        Of sampling, of the days that trials learn from, and of every fit. The family's own wins.
    threads
        Divided among the workers.
    trials
        Most trials, where that is less than declared; 0 tries nothing and returns what there is.
    scratch
        Folder for the data that the workers share. Default: the system's temporary folder.
    progress
        Told about iterations of any trial, now and then; what it returns is ignored.
    on_trial
        Told about each trial that ended in this call.

    Raises
    ------
    TuningError
        When no search is declared, a part is the wrong one, the metric cannot be optimised, another
        search of the study is running, or all trials failed, with the cause of the first.
    """
    declared = declaration.search
    if declared is None:
        raise TuningError(f"{family.name}: candidate {declaration.name} declares no search")
    _check_parts(train, validation)
    seed = seed if family.seed is None else family.seed
    metric = _metric(declared, train)
    learnt = share_of_days(train, declared.train_share, seed=seed)
    from mlops_assets.training.tuning.study import open_study

    begun = time.monotonic()
    with open_study(
        storage,
        study_name,
        declared,
        greater_is_better=bool(metric.greater_is_better),
        seed=seed,
        parallel=declared.workers > 1,
    ) as study:
        run = _Run(
            study=study,
            parameters=declaration.parameters,
            metric=metric.name,
            cap=declared.trials if trials is None else min(declared.trials, trials),
            timeout=declared.timeout,
            trial_timeout=declared.trial_timeout,
            deadline=begun + declared.timeout.total_seconds(),
            progress=progress,
            on_trial=on_trial,
        )
        resumed = len(study.records)
        setup = Setup(
            parts=Path(),
            algorithm=declaration.algorithm,
            metric=metric.name,
            seed=seed,
            threads=max(1, threads // declared.workers),
            searched=tuple(declared.space),
        )
        in_time = True
        if study.ended < run.cap:
            with private_folder(scratch or Path(tempfile.gettempdir()), "search-") as folder:
                setup = replace(setup, parts=folder / "parts")
                write_shared((_for_learner(learnt), _for_learner(validation)), setup.parts)
                with Pool(setup, declared.workers, folder) as pool:
                    in_time = run.go(pool)
        records = study.records
        best = best_trial(records, greater_is_better=bool(metric.greater_is_better))
        if not records:
            raise TuningError(f"{study_name}: the study has no trial; allow at least one")
        if best is None:
            study.give_up()
            raise _all_failed(study_name, records)
        return SearchResult(
            study=study_name,
            family=family.name,
            candidate=declaration.name,
            metric=metric.name,
            metric_title=metric.title,
            greater_is_better=bool(metric.greater_is_better),
            metric_is_loss=metric.name == train.task.loss,
            space=declared.space,
            trials=records,
            resumed=resumed,
            best=best,
            best_parameters=(
                dict(declaration.parameters)
                if best.declared
                else {**declaration.parameters, **best.parameters}
            ),
            importance=study.importance,
            ended_by="trials" if in_time else "timeout",
            seconds=time.monotonic() - begun,
            seed=seed,
            threads=setup.threads,
            workers=declared.workers,
            train_rows=len(learnt),
            validation_rows=len(validation),
        )


@dataclass
class _Flight:
    """A trial that is being fitted, and how far it is known to be."""

    trial: "Trial"
    changes: Mapping[str, Any]
    begun: float
    iteration: int | None = None
    total: int | None = None
    loss: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    @property
    def reached(self) -> str:
        if self.iteration is None:
            return ""
        return f", after iteration {self.iteration} of at most {self.total}"


@dataclass
class _Run:
    """One call of `search`: begins trials, listens to the workers, keeps the limits."""

    study: "SearchStudy"
    parameters: Mapping[str, Any]
    metric: str
    cap: int
    timeout: timedelta
    trial_timeout: timedelta
    deadline: float
    progress: Progress | None
    on_trial: OnTrial | None
    flights: dict[Worker, _Flight] = field(default_factory=dict)

    def go(self, pool: Pool) -> bool:
        """Run until there are enough trials or time is up; return whether there was time."""
        while time.monotonic() < self.deadline:
            while pool.has_room and self._wants_more():
                self._begin(pool)
            if not self.flights:
                return True
            self._listen(pool)
        for worker, flight in list(self.flights.items()):
            reason = f"the time of the search, {self.timeout}, was up{flight.reached}"
            pool.discard(worker)
            self._fail(worker, reason, interrupted=True)
        return self.study.ended >= self.cap

    def _wants_more(self) -> bool:
        if self.study.ended + len(self.flights) >= self.cap:
            return False
        records = self.study.records
        return len(records) < _HOPELESS_AFTER or any(record.value is not None for record in records)

    def _begin(self, pool: Pool) -> None:
        worker = pool.take()
        trial, changes = self.study.begin()
        self.flights[worker] = _Flight(trial, changes, time.monotonic())
        try:
            worker.begin(Job({**self.parameters, **changes}))
        except WorkerDiedError as error:
            pool.discard(worker)
            self._fail(worker, str(error))

    def _listen(self, pool: Pool) -> None:
        limit = self.trial_timeout.total_seconds()
        until = min(self.deadline, *(flight.begun + limit for flight in self.flights.values()))
        for worker in wait_for(list(self.flights), until - time.monotonic()):
            try:
                self._hear(pool, worker, worker.receive())
            except WorkerDiedError as error:
                pool.discard(worker)
                self._fail(worker, str(error))
        for worker, flight in list(self.flights.items()):
            if flight.seconds >= limit:
                pool.discard(worker)
                self._fail(worker, f"ran longer than its {self.trial_timeout}{flight.reached}")

    def _hear(self, pool: Pool, worker: Worker, reply: Reply) -> None:
        flight = self.flights[worker]
        if isinstance(reply, Begun):
            flight.begun = time.monotonic()  # a worker's start is no part of its first trial
            return
        if isinstance(reply, Report):
            flight.iteration, flight.total = reply.iteration, reply.total
            flight.loss = reply.loss if flight.loss is None else min(flight.loss, reply.loss)
            if self.progress is not None:
                self.progress(reply.iteration, reply.total, {"validation": reply.loss})
            go_on = self.study.report(flight.trial, reply.iteration, reply.total, reply.loss)
            worker.answer(go_on=go_on)
            return
        pool.give_back(worker)
        match reply:
            case Scored():
                self._score(worker, reply)
            case Stopped():
                reason = "its validation loss was worse than the median of earlier trials"
                outcome = self._outcome(flight, TrialState.PRUNED, f"{reason}{flight.reached}")
                self._end(worker, outcome)
            case Crashed():
                self._fail(worker, reply.reason)
            case _:
                assert_never(reply)

    def _score(self, worker: Worker, reply: Scored) -> None:
        if not isfinite(reply.value):
            self._fail(worker, f"its {self.metric} on validation is {reply.value}")
            return
        flight = self.flights[worker]
        outcome = self._outcome(flight, TrialState.COMPLETE, "")
        self._end(
            worker,
            replace(outcome, value=reply.value, iterations=reply.iterations),
            reply.parameters,
        )

    def _fail(self, worker: Worker, reason: str, *, interrupted: bool = False) -> None:
        outcome = self._outcome(self.flights[worker], TrialState.FAILED, reason)
        self._end(worker, replace(outcome, interrupted=interrupted))

    def _outcome(self, flight: _Flight, state: TrialState, reason: str) -> Outcome:
        return Outcome(
            state,
            seconds=flight.seconds,
            iterations=flight.iteration,
            loss=flight.loss,
            reason=reason,
        )

    def _end(
        self, worker: Worker, outcome: Outcome, fitted: Mapping[str, Any] | None = None
    ) -> None:
        flight = self.flights.pop(worker)
        record = self.study.finish(flight.trial, outcome, fitted)
        if self.on_trial is not None:
            self.on_trial(record)


def _check_parts(train: Part, validation: Part) -> None:
    for part, name in ((train, "train"), (validation, "validation")):
        if part.name != name:
            raise TuningError(
                f"a search takes the {name} part here, not {part.name!r}; it may see no other, "
                "because what it has seen cannot judge what it chose"
            )


def _metric(declared: SearchDeclaration, train: Part) -> Metric:
    try:
        metric = train.task.metric(declared.metric or train.task.loss)
        metric.sign  # noqa: B018 - raises where the metric has no direction
    except MetricError as error:
        raise TuningError(f"search.metric: {error}") from error
    return metric


def _for_learner(part: Part) -> Part:
    """Leave out what no fit looks at: keys and columns for slices."""
    return replace(part, context=part.context.iloc[:, :0])


def _all_failed(study: str, records: tuple[TrialRecord, ...]) -> TuningError:
    first = records[0]
    what = "the declared parameters" if first.declared else str(dict(first.parameters))
    return TuningError(
        f"{study}: none of its {len(records)} trials succeeded. The first, with {what}, failed: "
        f"{first.reason}. Mend the cause and search again; it begins anew"
    )
