"""The component that watches the platform and tells people what is wrong.

Its sensor looks at what Dagster knows (checks, freshness, runs, sensors) and at what the model
server reported, hands that to the alert book as occurrences, and has due messages sent. Which of
them are worth a message, and what becomes of it, is `mlops_assets.alerting`'s.
"""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.scheduler.instigation import TickStatus

from mlops_assets.alerting import (
    AlertBook,
    AlertKind,
    AlertsDeclaration,
    Occurrence,
    Severity,
    Unrecorded,
    deliver,
    open_sinks,
    record_serving_events,
)
from mlops_assets.alerting.serving_events import BEGINS
from mlops_assets.lake import Lake, LakeError
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.health import AssetHealth, graph_health
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.production.incident_alerts import record_incidents
from mlops_assets.settings import Settings

_NAME = "alerts_sensor"
_EVERY_SECONDS = 30
_OVERLAP = timedelta(minutes=10)
"""How much further back the server's events are read: several workers ship out of order."""
_MOST_RUNS = 1_000
_ANSWER_SECONDS = 1.0
_KIND_OF_CHECK = {
    "no_drift": AlertKind.drift,
    "performance_holds": AlertKind.performance,
    "no_limit_broken": AlertKind.performance,
}
"""Checks of a model family that a rule may single out; all others are checks of data."""
_SEVERITIES = {"ERROR": Severity.error, "WARN": Severity.warning}


class AlertRules(DeclaredComponent[AlertsDeclaration]):
    """What is worth a message, and where messages go; the sensor that notices and sends."""

    declared_by = AlertsDeclaration

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give the sensor."""
        del context
        return dg.Definitions(sensors=[alerts_sensor(self.declaration)])


@dataclass(frozen=True)
class _Seen:
    """How far the sensor has looked.

    Attributes
    ----------
    runs_until
        Runs that ended before it have been looked at; seconds since 1970.
    events_until
        Events of the model server, likewise, as ISO 8601; None: none yet.
    """

    runs_until: float
    events_until: str | None = None

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        # What failed before anybody declared alerts is history, and no news.
        return cls(**json.loads(cursor)) if cursor else cls(datetime.now(UTC).timestamp())


def alerts_sensor(declaration: AlertsDeclaration) -> dg.SensorDefinition:
    """Give the sensor that notices what is wrong, and sends the messages that are due."""
    unrecorded = Unrecorded(declaration)

    @dg.sensor(
        name=_NAME,
        minimum_interval_seconds=_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE_KEY},
        description="Raises and resolves alerts, and sends them as the rules say.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        if context.repository_def is None:
            raise dg.DagsterInvariantViolationError(
                f"{_NAME} needs the definitions that it watches; run it in a code location"
            )
        graph = context.repository_def.asset_graph
        sinks, ui_url = open_sinks(declaration.sinks), platform.settings.ui_url
        book = AlertBook(platform.lake, declaration)
        server = _server_trouble(platform.settings)
        try:
            looked = _watch(book, graph, context.instance, platform.lake, _Seen.of(context.cursor))
            book.record(server)
            deliveries = deliver(book, sinks, ui_url=ui_url)
            still_open = len(book.open_alerts())
        except LakeError as error:
            # Nothing can be kept, so nothing waits either: what matters most is told as it is.
            for occurrence in (*server, _unkept(error)):
                unrecorded.tell(occurrence, sinks, ui_url=ui_url)
            raise
        return dg.SensorResult(
            skip_reason=f"{still_open} open; {deliveries}", cursor=json.dumps(asdict(looked))
        )

    return alerts


def _watch(
    book: AlertBook,
    graph: BaseAssetGraph[Any],
    instance: dg.DagsterInstance,
    lake: Lake,
    seen: _Seen,
) -> _Seen:
    """Notice what is wrong everywhere; return how far was looked."""
    _watch_assets(book, graph, instance, lake)
    runs_until = _watch_runs(book, instance, seen.runs_until)
    _watch_sensors(book, instance)
    record_incidents(book, lake)
    events_until = record_serving_events(
        book,
        lake,
        datetime.fromisoformat(seen.events_until) if seen.events_until else None,
        overlap=_OVERLAP,
    )
    return _Seen(runs_until, events_until.isoformat() if events_until else None)


def _unkept(error: LakeError) -> Occurrence:
    return Occurrence(
        AlertKind.failed_sensor,
        subject=_NAME,
        key="lake",
        what=f"Alerts cannot be kept, because the lake cannot be written: {error}",
        severity=Severity.critical,
        next_step="Free space where the lake lies, or mend what keeps it from being written. "
        "Nothing else is told meanwhile.",
        link="automation",
    )


def _server_trouble(settings: Settings) -> tuple[Occurrence, ...]:
    """Ask the model server itself whether its log is full: that cannot stand in the log.

    A server that does not answer is not running, or somebody else's to watch.
    """
    everywhere = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    host = "127.0.0.1" if settings.serve_host in everywhere else settings.serve_host
    url = f"http://{host}:{settings.serve_port}/ready"
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:
            state = json.load(answer)["inference_log"]
    except (OSError, ValueError, KeyError):
        return ()
    if state != "full":
        return ()
    now = datetime.now(UTC)
    return (
        Occurrence(
            AlertKind.inference_log,
            # What the server's own event is about, so that its end closes this too.
            subject=BEGINS["log_full"].subject,
            key=f"{now:%Y-%m-%d %H}",
            what="The model server says that its inference log cannot be written.",
            severity=BEGINS["log_full"].severity,
            next_step=BEGINS["log_full"].next_step,
        ),
    )


def _watch_assets(
    book: AlertBook, graph: BaseAssetGraph[Any], instance: dg.DagsterInstance, lake: Lake
) -> None:
    """Raise what is wrong with an asset now, and close what no longer is."""
    health = graph_health(graph, instance, lake)
    failing = list(_failing_checks(health))
    passes = "The check passes again."
    for kind, noticed, because in (
        *(
            (kind, [found for found in failing if found.kind is kind], passes)
            for kind in dict.fromkeys((AlertKind.failed_check, *_KIND_OF_CHECK.values()))
        ),
        (AlertKind.stale_asset, list(_stale_assets(health)), "It was materialised."),
    ):
        book.record(noticed)
        _resolve_others(book, kind, noticed, because)


def _failing_checks(health: Sequence[AssetHealth]) -> Iterator[Occurrence]:
    for asset in health:
        for check in asset.failing_checks:
            kind = _KIND_OF_CHECK.get(check.name, AlertKind.failed_check)
            is_of_family = kind is not AlertKind.failed_check
            yield Occurrence(
                kind,
                subject=f"{asset.asset}:{check.name}",
                key=f"{_when(asset.materialised_at)}:{check.reason}"[:200],
                what=f"Check {check.name} of {asset.asset} fails: {check.reason or 'no reason'}",
                severity=_SEVERITIES[check.severity],
                asset=asset.asset,
                family=asset.group if is_of_family else None,
                next_step=f"See {asset.asset}'s plots; what is done about it is in "
                f"{asset.group}/retraining_decision and {asset.group}/rollback_decision."
                if is_of_family
                else f"Look at the check's samples, mend the source, materialise {asset.asset} "
                "again.",
            )


def _stale_assets(health: Sequence[AssetHealth]) -> Iterator[Occurrence]:
    for asset in health:
        if asset.freshness == "FAIL":
            made = _when(asset.materialised_at)
            yield Occurrence(
                AlertKind.stale_asset,
                subject=asset.asset,
                key=made,
                what=f"{asset.asset} is stale: last materialised {made}.",
                severity=Severity.warning,
                asset=asset.asset,
                since=asset.materialised_at,
                next_step=f"Materialise {asset.asset}, or see why its schedule did not.",
            )


def _when(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "never"


def _watch_runs(book: AlertBook, instance: dg.DagsterInstance, since: float) -> float:
    """Raise runs that failed, close what a later run of the job mended; return how far it looked.

    Runs are looked at in the order in which they ended, so that the last one of a job decides.
    """
    records = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS],
            # Storage rounds to the second in places; what was seen before is known by its key.
            updated_after=datetime.fromtimestamp(since - 1, UTC),
        ),
        limit=_MOST_RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    for record in records:
        run = record.dagster_run
        if run.status is dg.DagsterRunStatus.SUCCESS:
            book.resolve(
                AlertKind.failed_run, {run.job_name}, f"Run {run.run_id[:8]} of it succeeded."
            )
            continue
        reason = run.tags.get("mlops/reason")
        book.record(
            [
                Occurrence(
                    AlertKind.failed_run,
                    subject=run.job_name,
                    key=run.run_id,
                    what=f"Run {run.run_id[:8]} of {run.job_name} failed."
                    + (f" It was started because: {reason}" if reason else ""),
                    family=run.tags.get("mlops/family"),
                    since=_ended(record),
                    next_step="Read the first red line of the run, mend its cause, re-execute it "
                    "from there.",
                    link=f"runs/{run.run_id}",
                )
            ]
        )
    return max([since, *(record.update_timestamp.timestamp() for record in records)])


def _ended(record: dg.RunRecord) -> datetime | None:
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else None


def _watch_sensors(book: AlertBook, instance: dg.DagsterInstance) -> None:
    """Raise sensors and schedules whose last tick raised, and close those that work again."""
    failing = []
    for state in instance.all_instigator_state():
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        tick = ticks[0] if ticks else None
        if tick is None or tick.status is not TickStatus.FAILURE:
            continue
        failing.append(
            Occurrence(
                AlertKind.failed_sensor,
                subject=state.instigator_name,
                key=str(tick.tick_id),
                what=f"{state.instigator_name} raised: "
                f"{tick.error.message.strip() if tick.error else 'no message'}",
                since=datetime.fromtimestamp(tick.timestamp, UTC),
                next_step="The next tick tries again; read the tick's error in Dagster's UI.",
                link="automation",
            )
        )
    book.record(failing)
    _resolve_others(book, AlertKind.failed_sensor, failing, "Its last tick went well.")


def _resolve_others(
    book: AlertBook, kind: AlertKind, noticed: Sequence[Occurrence], because: str
) -> None:
    still = {occurrence.subject for occurrence in noticed}
    ended = {alert.occurrence.subject for alert in book.open_alerts(kind)} - still
    if ended:
        book.resolve(kind, ended, because)
