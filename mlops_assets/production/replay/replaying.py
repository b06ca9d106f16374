"""Living a stretch of history again, day by day.

In the evening of each day, when it is over everywhere (`mlops_assets.production.evaluating.over`),
the day's predictions are there, the labels that were known by then count, monitoring runs and
decides, a champion that breaks a limit is taken back, and what was decided is trained with what was
known and judged by the gate. All of it is what production calls; only the clock is another one.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from mlops_assets.alerting import Alert, AlertBook, AlertKind, AlertsDeclaration, Occurrence
from mlops_assets.features import FeatureRegistry
from mlops_assets.features.identifiers import quote
from mlops_assets.lake import TableName
from mlops_assets.production.evaluating import EvaluatedDay, evaluate_day, over
from mlops_assets.production.incident_alerts import record_incidents
from mlops_assets.production.platform import Platform
from mlops_assets.production.replay.errors import ReplayError
from mlops_assets.production.replay.faults import Fault
from mlops_assets.production.replay.home import make_home
from mlops_assets.production.replay.injecting import Evening, Injection, inject
from mlops_assets.production.replay.raw_days import RawDays
from mlops_assets.production.replay.record import Replayed, ReplayedDay, Training
from mlops_assets.production.replay.world import World
from mlops_assets.production.verdicts import Verdict, drift_verdict, performance_verdict
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    from mlops_assets.registry import ModelVersion

EVALUATION = "replay"
"""Name under which a replay's evaluations are written."""

ACTOR = "replay"

OnDay = Callable[[ReplayedDay], None]
Say = Callable[[str], None]


def replay(
    real: Platform,
    family: ModelFamily,
    views: FeatureRegistry,
    days: tuple[date, date],
    folder: Path,
    *,
    alerts: AlertsDeclaration,
    faults: Sequence[Fault] = (),
    raw: RawDays | None = None,
    retrain: bool = True,
    champion: str | None = None,
    days_per_second: float | None = None,
    on_day: OnDay = lambda _: None,
    say: Say = lambda _: None,
) -> Replayed:
    """Live some days of a family's history again.

    Parameters
    ----------
    real
        The deployment whose history it is; it is only read.
    family, views
        Whose, and the features there are.
    days
        First and last day, both inclusive, by the family's split column.
    folder
        Where the replay's home is made; it must not exist, or be empty.
    alerts
        What is worth an alert. Nothing is sent.
    faults
        What goes wrong.
    raw
        The raw table that faults of files are about.
    retrain
        Whether what is decided is trained.
    champion
        Who serves on the first day, such as `flight_delay/1`. Default: who does today.
    days_per_second
        How fast, at most. Default: as fast as it goes.
    on_day
        Told of each day when it is over.
    say
        Told what is done next.

    Returns
    -------
    Replayed
        What happened.

    Raises
    ------
    ReplayError
        When the champion has learnt from these days, there is no history of them, a fault cannot be
        injected, or a retraining could not learn newer days.
    """
    began, cpu = monotonic(), _cpu_seconds()
    first, last = days
    _check_days(real, family, first, last)
    if outside := [str(fault) for fault in faults if not first <= fault.day <= last]:
        raise ReplayError(f"{', '.join(outside)}: not within {first} to {last}, which is replayed")
    version = _champion(real, family, first, champion)
    then = _declared_then(family, first, retrain=retrain)
    injections = [inject(fault, raw) for fault in faults]
    say("linking the lake and copying the models")
    world = World(make_home(real, folder), then, views, first, last, now=over(first - _DAY))
    world.trained_at[version.version] = over(version.last_day)
    _let_serve(world, version)
    for injection in injections:
        say(f"injecting {injection.fault}")
        injection.prepare(world)
    say(f"scoring {(last - first).days + 1} days by {version}")
    world.score_from(first)
    life = _Life(world, injections, world.book(alerts), retrain=retrain, say=say)
    lived: list[ReplayedDay] = []
    for number in range((last - first).days + 1):
        started = monotonic()
        lived.append(life.live(first + timedelta(days=number)))
        on_day(lived[-1])
        if days_per_second is not None:
            time.sleep(max(0.0, 1 / days_per_second - (monotonic() - started)))
    return Replayed(
        family=family.name,
        metric=family.primary_metric,
        champion=version.version,
        days=tuple(lived),
        faults=tuple(injection.outcome(world, lived) for injection in injections),
        home=world.platform.settings.home,
        seconds=monotonic() - began,
        cpu_seconds=_cpu_seconds() - cpu,
    )


# Before the first day -----------------------------------------------------------------------------

_DAY = timedelta(days=1)


def _check_days(real: Platform, family: ModelFamily, first: date, last: date) -> None:
    """Refuse days that are in the wrong order, or of which there is no history."""
    if last < first:
        raise ReplayError(f"the last day {last} is before the first {first}")
    table, column = TableName.parse(family.spine.table), quote(family.split_column)
    with real.lake.connect(tables=[table]) as con:
        [(begins, ends)] = con.execute(
            f"SELECT min(CAST({column} AS DATE)), max(CAST({column} AS DATE)) FROM {table.sql}"
        ).fetchall()
    if begins is None or first < begins or last > ends:
        there = "is empty" if begins is None else f"has days from {begins} to {ends}"
        raise ReplayError(f"{first} to {last} cannot be replayed: {table} {there}")


def _champion(
    real: Platform, family: ModelFamily, first: date, wanted: str | None
) -> "ModelVersion":
    """Return who serves on the first day, if it has learnt from none of the days to come."""
    version = real.registry.find(wanted or f"{family.name}@champion")
    if version.family != family.name:
        raise ReplayError(f"{version} is no version of {family.name}")
    if version.last_day < first:
        return version
    honest = [str(one) for one in real.registry.versions(family.name) if one.last_day < first]
    also = f", or name one that has not: {', '.join(honest)}" if honest else ""
    raise ReplayError(
        f"{version} learnt from days up to {version.last_day}, so it would be asked what it has "
        f"seen; begin on {version.last_day + _DAY} or later{also}"
    )


def _declared_then(family: ModelFamily, first: date, *, retrain: bool) -> ModelFamily:
    """Return the family as it would have been declared on the eve of the first day.

    Its declared parts may reach into the days to come, which nobody knew.
    """
    split = family.split
    if split.rolling is None:
        if retrain:
            raise ReplayError(
                f"{family.name} declares no split.rolling, so training again would learn from the "
                "same days; declare it, or replay with --no-retrain"
            )
        return family
    days = split.rolled(split.rolling, first - _DAY)
    return family.model_copy(update={"split": split.model_copy(update=vars(days))})


def _let_serve(world: World, version: "ModelVersion") -> None:
    """Make a version champion in the replay's own store, where another one is."""
    from mlops_assets.registry import ModelReference, promote_by_hand

    if world.champion().version != version.version:
        promote_by_hand(
            world.platform.registry,
            ModelReference(version.family, version.version),
            actor=ACTOR,
            reason="served when the replay began",
        )


# Day by day ---------------------------------------------------------------------------------------


class _Life:
    """Lives days, one after the other."""

    def __init__(
        self,
        world: World,
        injections: Sequence[Injection],
        book: AlertBook,
        *,
        retrain: bool,
        say: Say,
    ) -> None:
        self._world, self._injections, self._book = world, injections, book
        self._retrain, self._say = retrain, say
        self._predictions = world.predictions()
        self._served: dict[date, ModelVersion] = {}

    def live(self, day: date) -> ReplayedDay:
        """Live one day, until it is over."""
        world = self._world
        world.now = over(day)
        champion = world.champion()
        self._served[day] = champion
        evenings = [injection.evening(world, day) for injection in self._injections]
        for corrected in (e.corrected for e in evenings if e.corrected is not None):
            world.score(self._served[corrected], corrected, corrected + _DAY)
        found = evaluate_day(
            world.platform.lake,
            world.platform.registry,
            world.family,
            world.views,
            day,
            evaluation=EVALUATION,
            as_of=world.now,
            at=world.now,
            trained_at=world.trained_at[world.champion().version],
            last_started=world.last_started,
        )
        rolled_back_to = self._rolled_back(day)
        training = self._trained() if self._retrain and found.decision.retrain else None
        if (
            any(evening.changed for evening in evenings)
            or rolled_back_to is not None
            or (training is not None and training.promoted)
        ):
            world.score_from(day + _DAY)
            self._predictions = world.predictions()
        raised = self._alerts(found, evenings, training)
        return _replayed(
            found,
            champion,
            self._predictions.get(day, 0),
            training,
            rolled_back_to,
            alerts=tuple(f"{a.occurrence.kind}: {a.occurrence.what}" for a in raised),
            notes=tuple(note for evening in evenings for note in evening.notes),
        )

    def _rolled_back(self, day: date) -> int | None:
        """Take the champion back if it breaks a limit; return who serves again."""
        from mlops_assets.production.incidents import IncidentKind
        from mlops_assets.production.rollback import judge_rollback, measure_rollback, roll_back

        world = self._world
        lake, registry, family = world.platform.lake, world.platform.registry, world.family
        if not family.rollback.is_automatic:
            return None
        situation = measure_rollback(
            lake, registry, family, world.views, day, world.now, load=world.load
        )
        decision = judge_rollback(situation, family.rollback)
        if not decision.roll_back:
            return None
        self._say(decision.summary)
        incident = roll_back(lake, registry, family, decision)
        return decision.target if incident.kind is IncidentKind.model_rollback else None

    def _trained(self) -> Training:
        """Train the family with what is known now, and let the gate decide."""
        from mlops_assets.production.training import train_family
        from mlops_assets.training.training_set_relations import TrainingSetError

        world = self._world
        world.last_started, began = world.now, monotonic()
        try:
            done = train_family(
                world.platform,
                world.family,
                world.views,
                actor=ACTOR,
                as_of=world.now,
                say=self._say,
            )
        except TrainingSetError as error:
            return Training(None, False, f"not trained: {error}", monotonic() - began)
        world.trained_at[done.challenger.version] = world.now
        return Training(
            done.challenger.version,
            done.promoted,
            done.outcome.decision.summary,
            done.seconds,
        )

    def _alerts(
        self, found: EvaluatedDay, evenings: Sequence[Evening], training: Training | None
    ) -> tuple[Alert, ...]:
        """Record what is noticed, close what is over, and return the alerts raised now."""
        family = self._world.family
        known = {alert.alert_id for alert in self._book.alerts()}
        for kind, name, verdict in (
            (AlertKind.drift, "drift", drift_verdict(found, family)),
            (AlertKind.performance, "performance", performance_verdict(found, family)),
        ):
            subject = f"{family.name}/{name}"
            if verdict.passed:
                self._book.resolve(kind, [subject], verdict.said)
            else:
                self._book.record([_noticed(kind, subject, found, verdict)])
        for evening in evenings:
            self._book.record(evening.noticed)
            for kind, subject in evening.mended:
                self._book.resolve(kind, [subject], "mended")
        if training is not None and training.challenger is None:
            self._book.record([_not_trained(family, found.day, training)])
        record_incidents(self._book, self._world.platform.lake)
        return tuple(alert for alert in self._book.alerts() if alert.alert_id not in known)


def _noticed(kind: AlertKind, subject: str, found: EvaluatedDay, verdict: Verdict) -> Occurrence:
    return Occurrence(
        kind,
        subject,
        key=str(found.day),
        what=verdict.said,
        asset=subject,
        family=found.family,
        day=found.day,
    )


def _not_trained(family: ModelFamily, day: date, training: Training) -> Occurrence:
    return Occurrence(
        AlertKind.failed_run,
        f"train_{family.name}",
        key=str(day),
        what=training.said,
        family=family.name,
        day=day,
    )


def _replayed(
    found: EvaluatedDay,
    champion: "ModelVersion",
    predictions: int,
    training: Training | None,
    rolled_back_to: int | None,
    *,
    alerts: tuple[str, ...],
    notes: tuple[str, ...],
) -> ReplayedDay:
    from mlops_assets.monitoring.profile import Subject

    features = found.drift_of(Subject.feature).report
    realised, estimated = found.realised, found.estimated
    return ReplayedDay(
        day=found.day,
        champion=champion.version,
        predictions=predictions,
        realised=None if realised is None else realised.now,
        estimated=None if estimated is None else estimated.now,
        reference=None if realised is None else realised.reference,
        features=len(features.columns),
        drifted=features.drifted,
        predictions_drifted=bool(found.drift_of(Subject.prediction).report.drifted),
        retrain=found.decision.retrain,
        reasons_for=found.decision.reasons_for,
        reasons_against=found.decision.reasons_against,
        training=training,
        rolled_back_to=rolled_back_to,
        alerts=alerts,
        notes=notes,
    )


def _cpu_seconds() -> float:
    """Return the processor seconds of this process and of those it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
