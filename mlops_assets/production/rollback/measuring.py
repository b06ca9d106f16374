"""Collecting what a rollback decision depends on, from the registry, the ledger and the lake."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake, TableName
from mlops_assets.production.incidents import IncidentKind, incidents
from mlops_assets.production.rollback.deciding import RollbackSituation, ServiceRecord
from mlops_assets.production.rollback.history import barred_versions, last_served
from mlops_assets.training.bootstrap import MINIMUM_BLOCKS
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    from mlops_assets.monitoring.answered import LabelledRows, PredictionLog
    from mlops_assets.registry import ModelVersion, Registry
    from mlops_assets.training.estimators import Estimator
    from mlops_assets.training.tasks import Task

    Load = Callable[[ModelVersion], Estimator]

FAILED = "model_failed"
"""Kind of event by which the model server tells of predictions that it could not answer."""

_EVENTS = TableName("inference", "events")


def measure_rollback(
    lake: Lake,
    registry: "Registry",
    family: ModelFamily,
    views: FeatureRegistry,
    day: date,
    as_of: datetime,
    *,
    at: datetime | None = None,
    load: "Load | None" = None,
) -> RollbackSituation:
    """Collect what is known of the champion, of who served before it, and of going back.

    Nothing is read for a limit that is not declared, and no model is loaded where nobody could
    come back.

    Parameters
    ----------
    lake, registry
        Of the deployment.
    family
        The declaration; its ``rollback`` says what is wanted.
    views
        The feature views there are.
    day
        Last day whose predictions are compared.
    as_of
        Labels known later do not count; with a zone.
    at
        The clock by which the cooldown and the model server's requests are told. By default
        ``as_of``.
    load
        Loads a version. Default: the registry; who measures day after day keeps what it loaded.
    """
    situation, champion, target = _candidates(lake, registry, family, at or as_of)
    policy = family.rollback
    if champion is None or target is None:
        return situation
    if policy.watches_service:
        situation = _with_service(situation, lake, family)
    if policy.metric_drop is None:
        return situation
    return _with_comparison(
        situation, _Pair(lake, family, views, champion, target, load or registry.load), day, as_of
    )


def measure_service_limits(
    lake: Lake, registry: "Registry", family: ModelFamily, at: datetime
) -> RollbackSituation:
    """Collect what is known of errors and latency alone, which takes no model and no label.

    Parameters
    ----------
    lake, registry, family
        As in `measure_rollback`.
    at
        The end of the time that is looked at, with a zone.
    """
    situation, champion, _ = _candidates(lake, registry, family, at)
    return situation if champion is None else _with_service(situation, lake, family)


def _candidates(
    lake: Lake, registry: "Registry", family: ModelFamily, at: datetime
) -> "tuple[RollbackSituation, ModelVersion | None, ModelVersion | None]":
    """Return who serves, who may come back, and the situation as far as that tells it."""
    from mlops_assets.registry import Alias, ModelReference, ledger

    entries = ledger.read(lake, family.name)
    champion = registry.find_or_none(ModelReference(family.name, alias=Alias.champion))
    found = (
        registry.find_or_none(ModelReference(family.name, version))
        for version in last_served(entries)
        if champion is None or version != champion.version
    )
    target = next((version for version in found if version is not None), None)
    rollbacks = [
        incident.at
        for incident in incidents(lake)
        if incident.kind is IncidentKind.model_rollback
        and incident.family == family.name
        and incident.at <= at
    ]
    situation = RollbackSituation(
        family=family.name,
        at=at,
        champion=None if champion is None else champion.version,
        target=None if target is None else target.version,
        barred=barred_versions(entries),
        last_rollback=max(rollbacks, default=None),
    )
    return situation, champion, target


# Errors and latency -------------------------------------------------------------------------------


def _with_service(
    situation: RollbackSituation, lake: Lake, family: ModelFamily
) -> RollbackSituation:
    table = TableName("inference", family.name)
    if not lake.exists(table):
        return situation
    tables = [table, *([_EVENTS] if lake.exists(_EVENTS) else [])]
    with lake.connect(tables=tables) as con:
        requests = _Requests(con, table, family, has_events=_EVENTS in tables)
        now = requests.of(situation.champion, situation.at)
        # What the one before was like is told by the last of its own requests.
        before = requests.last_of(situation.target, situation.at)
    return replace(situation, service=now, service_before=before)


@dataclass(frozen=True)
class _Requests:
    """The model server's requests for one family, in an open session."""

    con: "duckdb.DuckDBPyConnection"
    table: TableName
    family: ModelFamily
    has_events: bool

    def last_of(self, version: int | None, until: datetime) -> ServiceRecord | None:
        """Count the last requests that a version answered as champion."""
        if version is None:
            return None
        [(newest,)] = self.con.execute(
            f"SELECT max(answered_at) FROM {self.table.sql} "
            "WHERE version = $version AND role = 'champion' AND answered_at < $until",
            {"version": version, "until": until},
        ).fetchall()
        return None if newest is None else self.of(version, newest + timedelta(microseconds=1))

    def of(self, version: int | None, until: datetime) -> ServiceRecord:
        """Count the requests of a version within the policy's time before an instant."""
        policy = self.family.rollback
        span = {
            "version": version,
            "since": until - policy.service_window,
            "until": until,
        }
        # The rows of a request are numbered, and each has the time of the whole request.
        [(requests, slow, predictions)] = self.con.execute(
            f"""
            SELECT count(*) FILTER (prediction_id = request_id || '-0'),
                count(*) FILTER (prediction_id = request_id || '-0' AND seconds > $limit),
                count(*)
            FROM {self.table.sql}
            WHERE version = $version AND role = 'champion'
              AND answered_at >= $since AND answered_at < $until
            """,
            {**span, "limit": policy.p99_seconds},
        ).fetchall()
        failed = self._failed(span) if self.has_events else 0
        return ServiceRecord(
            requests=requests,
            slow=None if policy.p99_seconds is None else slow,
            predictions=predictions + failed,
            failed=failed,
        )

    def _failed(self, span: Mapping[str, object]) -> int:
        [(failed,)] = self.con.execute(
            f"""
            SELECT coalesce(sum(rows), 0)::BIGINT FROM {_EVENTS.sql}
            WHERE kind = '{FAILED}' AND family = $family AND version = $version
              AND "at" >= $since AND "at" < $until
            """,
            {**span, "family": self.family.name},
        ).fetchall()
        return int(failed)


# The metric ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """Champion and target, and what is needed to compare them."""

    lake: Lake
    family: ModelFamily
    views: FeatureRegistry
    champion: "ModelVersion"
    target: "ModelVersion"
    load: "Load"


def _with_comparison(
    situation: RollbackSituation, pair: _Pair, day: date, as_of: datetime
) -> RollbackSituation:
    from mlops_assets.production.rollback.comparing import compare
    from mlops_assets.training.metrics import MetricError
    from mlops_assets.training.tasks import TaskError

    family, policy = pair.family, pair.family.rollback
    table = _answered_in(pair.lake, family)
    if table is None:
        return replace(situation, no_comparison="nothing was predicted yet")
    champion, target = pair.load(pair.champion), pair.load(pair.target)
    log, columns = _log_of(pair, table, champion)
    if absent := [name for name in target.schema.names if name not in columns]:
        said = f"{pair.target} takes {', '.join(absent)}, which {pair.champion} did not see"
        return replace(situation, no_comparison=said)
    untouched = max(pair.champion.last_day, pair.target.last_day) + timedelta(days=1)
    first = max(untouched, day - timedelta(days=policy.window_days - 1))
    seen = [columns[name] for name in target.schema.names]
    with pair.lake.connect(tables=[table, TableName.parse(family.label.table)]) as con:
        began = _first_day(con, log, pair.champion.version, untouched, day)
        if began is None:
            return replace(situation, no_comparison=f"{pair.champion} has answered nothing yet")
        found = _labelled(con, log, pair, champion.task, (first, day), as_of, seen)
    situation = replace(situation, labelled=len(found.rows.label))
    if not situation.labelled:
        return replace(situation, no_comparison="none of its predictions has a label yet")
    try:
        others = champion.task.aligned(_answers(target, found, seen), target.task)
        comparison = compare(
            family.primary_metric,
            champion.task,
            found.rows.label,
            found.rows.answers,
            others,
            found.rows.day,
            # Before there are enough days, nothing is compared, and no look is used up.
            looks=max(1, (day - began).days + 2 - MINIMUM_BLOCKS),
            confidence=policy.confidence,
        )
    except (MetricError, TaskError) as error:
        return replace(situation, no_comparison=str(error))
    return replace(situation, comparison=comparison)


def _answered_in(lake: Lake, family: ModelFamily) -> TableName | None:
    """Return the table of what was predicted: for whole days, or else by the server."""
    from mlops_assets.serving.batch_scoring import predictions_table

    tables = (predictions_table(family.name), TableName("inference", family.name))
    return next((table for table in tables if lake.exists(table)), None)


def _log_of(
    pair: _Pair, table: TableName, champion: "Estimator"
) -> "tuple[PredictionLog, Mapping[str, str]]":
    """Return how a table of predictions is read, and feature to the column the champion saw."""
    from mlops_assets.monitoring.answered import PredictionLog
    from mlops_assets.serving.batch_scoring import DAY, SCHEMA, prediction_columns

    columns = prediction_columns(pair.family, pair.views, champion.schema, champion.task.outputs)
    log = PredictionLog(
        table.sql,
        columns.entity,
        answers=columns.answers,
        roles=("champion",),
        day=DAY if table.schema == SCHEMA else None,
    )
    return log, columns.features


def _first_day(
    con: "duckdb.DuckDBPyConnection",
    log: "PredictionLog",
    version: int,
    first: date,
    last: date,
) -> date | None:
    """Return the first day that a version answered; None where it has not."""
    [(began,)] = con.execute(
        f"SELECT min({log.on}) FROM {log.relation} WHERE {log.where(first, last, version)}"
    ).fetchall()
    return began if isinstance(began, date) else None


def _labelled(
    con: "duckdb.DuckDBPyConnection",
    log: "PredictionLog",
    pair: _Pair,
    task: "Task",
    days: tuple[date, date],
    as_of: datetime,
    features: Sequence[str],
) -> "LabelledRows":
    from mlops_assets.monitoring.answered import read_labelled

    return read_labelled(
        con,
        log,
        pair.family,
        task,
        *days,
        as_of=as_of,
        due=pair.family.monitoring.label_due,
        version=pair.champion.version,
        also=features,
    )


def _answers(
    target: "Estimator", found: "LabelledRows", seen: Sequence[str]
) -> "NDArray[np.float64]":
    """Ask the other version what the champion was asked."""
    from mlops_assets.training.dataset import feature_frame

    if found.rows.also is None:
        raise ValueError("labelled rows came without the features that were asked for")
    table = found.rows.also.select(list(seen)).rename_columns(list(target.schema.names))
    return target.predict(feature_frame(table, target.schema))
