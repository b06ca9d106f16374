"""A search in MLflow: one run for the search, and under it one run a trial, each exactly once.

Runs are recognised by the study's name and the trial's number, both tags. So logging a search
again, after a resumption or after a kill in the middle of logging, completes what is there and
repeats nothing.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mlops_assets.lake import TableVersion
from mlops_assets.registry.registry import Registry
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.tuning import SearchResult, TrialRecord, TrialState

_STUDY = "mlops.study"
_TRIAL = "mlops.trial"
_PARENT = "mlflow.parentRunId"  # MLflow shows a run with this tag under the one it names
_PAGE = 1000
_LONGEST_TAG = 4000

_STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAILED: "FAILED",
}
"""MLflow's word for how a trial ended; it has none for one that was stopped on purpose but this."""


def log_search(
    registry: Registry, family: ModelFamily, found: SearchResult, training_set: TableVersion
) -> str:
    """Log a search with all its trials, as far as they are not logged yet.

    Parameters
    ----------
    registry
        Where to.
    family
        Whose search it is; its runs stand in the family's experiment.
    found
        What the search found, now or in several calls.
    training_set
        What it searched on.

    Returns
    -------
    str
        The id of the search's run.
    """
    client = registry.client
    experiment = registry.experiment(family)
    search_run = _run_of(registry, experiment, f"tags.`{_STUDY}` = '{found.study}'")
    if search_run is None:
        search_run = client.create_run(
            experiment,
            start_time=_milliseconds(found.trials[0]),
            run_name=f"{found.candidate} search",
            tags={
                _STUDY: found.study,
                "mlops.training_set": str(training_set),
                "mlops.searched_candidate": found.candidate,
                "mlflow.note.content": (
                    f"Search of the parameters of {found.candidate} on {training_set}. Runs under "
                    "this one are its trials; a pruned one shows as killed."
                ),
            },
        ).info.run_id
    logged = _logged_trials(registry, experiment, search_run)
    for trial in found.trials:
        run_id, done = logged.get(trial.number, ("", False))
        if not done:
            _log_trial(registry, experiment, search_run, run_id, found, trial)
    _log_summary(registry, search_run, found)
    return search_run


def _run_of(registry: Registry, experiment: str, condition: str) -> str | None:
    found = registry.client.search_runs([experiment], condition, max_results=1)
    return str(found[0].info.run_id) if found else None


def _logged_trials(
    registry: Registry, experiment: str, search_run: str
) -> dict[int, tuple[str, bool]]:
    """Return the run of each trial, and whether all of it is there."""
    found: dict[int, tuple[str, bool]] = {}
    token = None
    while True:
        page = registry.client.search_runs(
            [experiment],
            f"tags.`{_PARENT}` = '{search_run}'",
            max_results=_PAGE,
            page_token=token,
        )
        for run in page:
            done = run.info.status in _STATUS.values()
            found[int(run.data.tags[_TRIAL])] = (str(run.info.run_id), done)
        token = page.token
        if not token:
            return found


def _log_trial(
    registry: Registry,
    experiment: str,
    search_run: str,
    run_id: str,
    found: SearchResult,
    trial: TrialRecord,
) -> None:
    from mlflow.entities import Metric, Param

    client = registry.client
    started = _milliseconds(trial)
    ended = _milliseconds(trial, after=trial.seconds)
    if not run_id:
        run_id = client.create_run(
            experiment,
            start_time=started,
            run_name=f"{found.candidate} trial {trial.number}",
            tags={
                _PARENT: search_run,
                _TRIAL: str(trial.number),
                "mlops.trial_state": trial.state.value,
                "mlops.trial_declared": json.dumps(trial.declared),
                **({"mlops.trial_reason": trial.reason[:_LONGEST_TAG]} if trial.reason else {}),
            },
        ).info.run_id
    numbers: Mapping[str, float | None] = {
        f"validation_{found.metric}": trial.value,
        "lowest_validation_loss": trial.loss,
        "iterations": trial.iterations,
        "fit_seconds": trial.seconds,
    }
    client.log_batch(
        run_id,
        params=[Param(name, str(value)) for name, value in trial.parameters.items()],
        # The trial's own times: a batch that is sent again says the same and adds nothing.
        metrics=[Metric(name, float(n), ended, 0) for name, n in numbers.items() if n is not None],
    )
    client.set_terminated(run_id, _STATUS[trial.state], end_time=ended)


def _log_summary(registry: Registry, search_run: str, found: SearchResult) -> None:
    """Log what the search as a whole found, with the best so far as a curve over the trials."""
    from mlflow.entities import Metric, RunTag

    last = found.trials[-1]
    ended = _milliseconds(last, after=last.seconds)
    metrics: list[Any] = []
    best: float | None = None
    sign = 1.0 if found.greater_is_better else -1.0
    for trial in found.trials:
        if trial.value is not None and (best is None or sign * trial.value > sign * best):
            best = trial.value
            at = _milliseconds(trial, after=trial.seconds)
            metrics.append(Metric(f"best_validation_{found.metric}", best, at, trial.number))
    metrics += [
        Metric(f"trials_{state.value}", float(count), ended, last.number)
        for state, count in found.counts.items()
    ]
    metrics += [
        Metric(f"importance.{name}", share, ended, last.number)
        for name, share in found.importance.items()
    ]
    tags = {
        "mlops.best_trial": str(found.best.number),
        "mlops.best_parameters": json.dumps(dict(found.best_parameters), sort_keys=True),
        "mlops.ended_by": found.ended_by,
    }
    for first in range(0, len(metrics), _PAGE):  # the most that MLflow takes at once
        registry.client.log_batch(search_run, metrics=metrics[first : first + _PAGE])
    registry.client.log_batch(
        search_run, tags=[RunTag(name, text[:_LONGEST_TAG]) for name, text in tags.items()]
    )
    registry.client.set_terminated(search_run, "FINISHED", end_time=ended)


def _milliseconds(trial: TrialRecord, after: float | None = None) -> int:
    at = trial.started_at + timedelta(seconds=after or 0.0)
    return int(at.timestamp() * 1000)
