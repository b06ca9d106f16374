"""Evaluating one day of a family in production: drift, performance, service, and what to do.

Everything is compared with what the champion learnt and how it was judged, as far as it was known
at an instant. Whatever is found is written to the tables of monitoring, once for each name of an
evaluation, and given back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic
from typing import TYPE_CHECKING

from mlops_assets.features import FeatureRegistry
from mlops_assets.features.identifiers import quote
from mlops_assets.lake import Lake, TableName
from mlops_assets.monitoring.answered import PredictionLog, joined_labels
from mlops_assets.monitoring.decision import (
    Champion,
    Decision,
    DriftEvidence,
    MetricEvidence,
    Situation,
    decide,
)
from mlops_assets.monitoring.drift import WindowDrift, find_drift_by_window
from mlops_assets.monitoring.performance import Kind, PerformanceReport, measure_performance
from mlops_assets.monitoring.profile import Subject
from mlops_assets.monitoring.reconstruction import reconstruction_drift
from mlops_assets.monitoring.service_health import ServiceHealth
from mlops_assets.monitoring.tables import MonitoringTables, last_drift
from mlops_assets.production.errors import NoChampionError
from mlops_assets.production.references import Learnt, ModelReferences, references_of
from mlops_assets.production.service import service_of_days
from mlops_assets.registry.names import Alias, ModelReference
from mlops_assets.serving.batch_scoring import DAY, prediction_columns, predictions_table
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.family import DERIVED_SLICES, ModelFamily

if TYPE_CHECKING:
    import duckdb

    from mlops_assets.registry import ModelVersion, Registry

_DRAWS = 500
_WINDOW = "window_rows"
_FEATURES = "window_features"
_LABELS = "window_labels"


@dataclass(frozen=True)
class EvaluatedDay:
    """What was found of one day.

    Attributes
    ----------
    family, day
        Whose, and which, by the family's split column.
    as_of
        What was known later had no part in it.
    evaluation
        The name it was written under.
    model
        The champion that everything was compared with.
    drift
        By window and subject; the shortest window decides.
    performance
        Realised of the days whose labels were due, and estimated.
    no_estimate
        Why nothing was estimated; empty where something was.
    service
        Of the model server on that day; None where there is no inference log.
    realised, estimated
        The primary metric over the longest window beside what it was when the champion was chosen;
        None where there is none.
    decision
        Whether to train again.
    seconds
        How long it took.
    """

    family: str
    day: date
    as_of: datetime
    evaluation: str
    model: str
    drift: tuple[WindowDrift, ...]
    performance: PerformanceReport
    no_estimate: str
    service: ServiceHealth | None
    realised: MetricEvidence | None
    estimated: MetricEvidence | None
    decision: Decision
    seconds: float

    def drift_of(self, subject: Subject, window_days: int | None = None) -> WindowDrift:
        """Return the drift of a subject in a window, by default the shortest, which decides."""
        return next(
            found
            for found in self.drift
            if found.report.subject is subject
            and (window_days is None or found.window_days == window_days)
        )


def over(day: date) -> datetime:
    """Return the instant from which on a calendar day is over, wherever its clock stands.

    The split column may be of any local calendar. The last zone to end a day is twelve hours behind
    UTC.
    """
    return datetime.combine(day + timedelta(days=1), time(12), UTC)


def serving_champion(registry: "Registry", family: ModelFamily) -> "ModelVersion":
    """Return the version that serves.

    Raises
    ------
    NoChampionError
        When nothing does yet; it says what to do first.
    """
    version = registry.find_or_none(ModelReference(family.name, alias=Alias.champion))
    if version is None:
        raise NoChampionError(
            f"{family.name} has no champion, so there is nothing to answer with or to compare "
            f"with. Train it first, with the job train_{family.name}; where that was done, its "
            f"asset {family.name}/champion says why the gate let nothing through"
        )
    return version


def evaluate_day(
    lake: Lake,
    registry: "Registry",
    family: ModelFamily,
    views: FeatureRegistry,
    day: date,
    *,
    evaluation: str,
    as_of: datetime | None = None,
    at: datetime | None = None,
    trained_at: datetime | None = None,
    last_started: datetime | None = None,
    in_progress: bool = False,
) -> EvaluatedDay:
    """Evaluate one day of a family's predictions, write what is found, and decide.

    Parameters
    ----------
    lake, registry
        Hold the predictions (`mlops_assets.serving.batch_scoring`), the labels and the champion,
        and get what is found.
    family, views
        Whose, and the features there are.
    day
        By the family's split column. One without predictions is evaluated too: that is a state.
    evaluation
        Name of this evaluation, such as the id of a run; the same one writes nothing twice.
    as_of
        Labels known later do not count. By default the instant at which the day is `over`.
    at
        The clock by which ages and the cooldown are told. By default ``as_of``.
    trained_at
        When the champion was trained, by the same clock. By default when it was registered.
    last_started, in_progress
        When the last training began, and whether one is running; see `Situation`.

    Returns
    -------
    EvaluatedDay
        With everything that was written.

    Raises
    ------
    NoChampionError
        When nothing serves yet.
    mlops_assets.monitoring.MonitoringError
        When the predictions lack what is needed; it says what.
    mlops_assets.lake.LakeError
        When the days were never scored, or a table cannot be read or written.
    """
    began = monotonic()
    version = serving_champion(registry, family)
    as_of = over(day) if as_of is None else as_of
    at = as_of if at is None else at
    references = references_of(lake, registry, family, version, at)
    policy = family.monitoring
    mature = _mature(day, as_of, policy.label_due)
    first = min(day, mature) - timedelta(days=policy.windows[-1] - 1)
    table, label = predictions_table(family.name), TableName.parse(family.label.table)
    with lake.connect(tables=[table, label]) as con:
        con.execute(
            f"CREATE TEMP TABLE {_WINDOW} AS FROM {table.sql} "
            f"WHERE {DAY} BETWEEN DATE '{first:%Y-%m-%d}' AND DATE '{day:%Y-%m-%d}'"
        )
        log = _log(family, views, references.learnt)
        performance = measure_performance(
            con,
            log,
            family,
            references.learnt.task,
            day,
            as_of=as_of,
            mature=mature,
            windows=policy.windows,
            due=policy.label_due,
            estimator=references.estimator,
            resampling=Resampling(draws=_DRAWS, confidence=policy.confidence),
            version=version.version,
        )
        drift = tuple(
            _drift(con, family, views, references, version, log, day, mature=mature, as_of=as_of)
        )
        newest_label, new_rows = _labelled_since(con, family, references.learnt, as_of)
    tables = MonitoringTables(lake, family.name, day, evaluation, at)
    tables.write_performance(performance)
    tables.write_drift(version.version, drift)
    service = service_of_days(lake, family.name, day).get(day)
    if service is not None:
        tables.write_service(service)
    realised, estimated = (
        _evidence(family, version, performance, kind, references.learnt)
        for kind in (Kind.realised, Kind.estimated)
    )
    decision = decide(
        Situation(
            family=family.name,
            at=at,
            champion=Champion(
                version.version,
                version.created_at if trained_at is None else trained_at,
                references.learnt.newest_row,
                references.learnt.training_took,
            ),
            newest_label=newest_label,
            new_rows=new_rows,
            drift=_drift_evidence(lake, family, version, day),
            realised=realised,
            estimated=estimated,
            last_started=last_started,
            in_progress=in_progress,
        ),
        family.retraining,
    )
    tables.write_decision(decision)
    return EvaluatedDay(
        family=family.name,
        day=day,
        as_of=as_of,
        evaluation=evaluation,
        model=str(version),
        drift=drift,
        performance=performance,
        no_estimate=references.learnt.no_estimate,
        service=service,
        realised=realised,
        estimated=estimated,
        decision=decision,
        seconds=monotonic() - began,
    )


def _mature(day: date, as_of: datetime, due: timedelta) -> date:
    """Return the last day, up to ``day``, whose labels are all due."""
    newest = (as_of - due - timedelta(days=1, hours=12)).astimezone(UTC).date()
    return min(day, newest)


def _log(family: ModelFamily, views: FeatureRegistry, learnt: Learnt) -> PredictionLog:
    """Say where things are in the table of the window."""
    columns = prediction_columns(family, views, learnt.schema, learnt.task.outputs)
    places = {**columns.features, **columns.entity}
    return PredictionLog(
        _WINDOW,
        columns.entity,
        answers=columns.answers,
        features=tuple(columns.features.values()),
        slices={
            name: places[name]
            for name in family.slices
            if name in places and name not in DERIVED_SLICES
        },
        day=DAY,
    )


def _drift(
    con: "duckdb.DuckDBPyConnection",
    family: ModelFamily,
    views: FeatureRegistry,
    references: ModelReferences,
    version: "ModelVersion",
    log: PredictionLog,
    day: date,
    *,
    mature: date,
    as_of: datetime,
) -> Iterator[WindowDrift]:
    """Compare features, predictions and labels with what the champion learnt, window by window."""
    policy, learnt, profiles = family.monitoring, references.learnt, references.profiles
    columns = prediction_columns(family, views, learnt.schema, learnt.task.outputs)
    with joined_labels(
        con,
        log,
        family,
        learnt.task,
        (mature - timedelta(days=policy.windows[-1] - 1), mature),
        as_of=as_of,
        due=policy.label_due,
    ) as joined:
        con.execute(
            f"CREATE TEMP TABLE {_LABELS} AS SELECT on_day AS {DAY}, label FROM {joined} "
            "WHERE state = 'labelled'"
        )
    con.execute(
        f'CREATE TEMP TABLE {_FEATURES} AS SELECT {DAY} AS "@day", version AS "@version", '
        f"{_renamed(columns.features)}, "
        f"{_renamed(dict(zip(learnt.task.outputs, columns.answers, strict=True)))} "
        f"FROM {_WINDOW} WHERE {_since(DAY, day, policy.windows[-1])}"
    )
    answered = f'(SELECT * FROM {_FEATURES} WHERE "@version" = {version.version})'
    for subject, relation, on, last in (
        (Subject.feature, _FEATURES, "@day", day),
        (Subject.prediction, answered, "@day", day),
        (Subject.label, _LABELS, DAY, mature),
    ):
        found = find_drift_by_window(
            con,
            relation,
            profiles[subject],
            policy.drift,
            day=on,
            last=last,
            windows=policy.windows,
        )
        for length, report in found.items():
            together = None
            if subject is Subject.feature and references.reconstruction is not None:
                together = reconstruction_drift(
                    con,
                    f"(SELECT * FROM {_FEATURES} WHERE {_since('@day', day, length)})",
                    references.reconstruction,
                    policy.drift,
                    day="@day",
                )
            yield WindowDrift(length, report, together)


def _since(column: str, last: date, days: int) -> str:
    """Return the SQL condition for the days of a window."""
    return f"{quote(column)} > DATE '{last - timedelta(days=days):%Y-%m-%d}'"


def _renamed(columns: Mapping[str, str]) -> str:
    """Return SQL that gives columns their own names again."""
    return ", ".join(f"{quote(column)} AS {quote(name)}" for name, column in columns.items())


def _labelled_since(
    con: "duckdb.DuckDBPyConnection", family: ModelFamily, learnt: Learnt, as_of: datetime
) -> tuple[datetime | None, int]:
    """Return when the newest label became known, and how many are newer than the training set."""
    label = family.label
    known = quote(label.available_at)
    filtered = f" AND ({label.filter})" if label.filter is not None else ""
    [found] = con.execute(
        f"SELECT max({known}), count(*) FILTER ({known} > $learnt) "
        f"FROM {TableName.parse(label.table).sql} "
        f"WHERE {known} <= $as_of AND {quote(label.column)} IS NOT NULL{filtered}",
        {"learnt": learnt.newest_known, "as_of": as_of},
    ).fetchall()
    return found[0], int(found[1])


def _drift_evidence(
    lake: Lake, family: ModelFamily, version: "ModelVersion", day: date
) -> tuple[DriftEvidence, ...]:
    """Return the drift of the last evaluations that compared with this version."""
    shortest = family.monitoring.windows[0]
    found = last_drift(
        lake, family.name, version.version, shortest, day, family.retraining.drifted_windows
    )
    return tuple(DriftEvidence(features, names, also) for _, features, names, also in found)


def _evidence(
    family: ModelFamily,
    version: "ModelVersion",
    performance: PerformanceReport,
    kind: Kind,
    learnt: Learnt,
) -> MetricEvidence | None:
    """Put the primary metric over the longest window beside what it was when it was chosen."""
    metric = learnt.task.metric(version.primary_metric)
    reference = version.metrics.get(f"{learnt.judged_on}_{metric.name}")
    now = performance.get(kind, metric.name, family.monitoring.windows[-1])
    if reference is None or now is None:
        return None
    return MetricEvidence(metric.name, metric.sign > 0, reference, now)
