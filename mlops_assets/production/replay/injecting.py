"""Faults put into a replay: what each does to the world, when, and whether it was handled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

from mlops_assets.alerting import AlertKind, Occurrence
from mlops_assets.features import Selection
from mlops_assets.features.identifiers import quote
from mlops_assets.lake import TableName
from mlops_assets.production.replay.errors import ReplayError
from mlops_assets.production.replay.faults import Fault, FaultKind
from mlops_assets.production.replay.raw_days import RawDays
from mlops_assets.production.replay.record import FaultOutcome, ReplayedDay
from mlops_assets.production.replay.world import World

_SHIFT = 2.0
"""Standard deviations by which a drifted number is shifted."""

_ODD_LEVEL = "(injected)"
_LATE_DAYS = 3
"""Days after which a late correction comes."""

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL")


@dataclass
class Evening:
    """What a fault did in the evening of a day.

    Attributes
    ----------
    notes
        In a line each.
    noticed
        What the platform noticed of it at once, for its alerts.
    mended
        Kinds and subjects of alerts that are over.
    corrected
        A day whose rows have changed, to be answered again by whoever served then.
    changed
        Whether the days to come are to be answered anew.
    """

    notes: list[str] = field(default_factory=list)
    noticed: list[Occurrence] = field(default_factory=list)
    mended: list[tuple[AlertKind, str]] = field(default_factory=list)
    corrected: date | None = None
    changed: bool = False


class Injection(Protocol):
    """A fault at work in a replay."""

    fault: Fault

    def prepare(self, world: World) -> None:
        """Change the world before the first day."""

    def evening(self, world: World, day: date) -> Evening:
        """Do what happens in the evening of a day."""

    def outcome(self, world: World, days: Sequence[ReplayedDay]) -> FaultOutcome:
        """Say what came of it."""


def inject(fault: Fault, raw: RawDays | None) -> Injection:
    """Return a fault at work.

    Parameters
    ----------
    fault
        Which.
    raw
        The raw table whose files can be broken; None where there is none.

    Raises
    ------
    ReplayError
        When it is about a raw file and there is no such table.
    """
    if fault.kind is FaultKind.drift:
        return Drift(fault)
    if fault.kind is FaultKind.bad_model:
        return BadModel(fault)
    if raw is None:
        raise ReplayError(
            f"{fault}: no raw table is known that comes as files by day, and that the family's "
            "spine is made of"
        )
    kind = BrokenFile if fault.kind is FaultKind.broken_file else LateCorrection
    return kind(fault, raw)


# Drift --------------------------------------------------------------------------------------------


@dataclass
class Drift:
    """A feature, or all of a view, is shifted in the feature table from a day on."""

    fault: Fault
    features: tuple[str, ...] = ()

    def prepare(self, world: World) -> None:
        """Shift it."""
        from mlops_assets.training.training_set import select_features

        wanted = self.fault.what
        selections = select_features(world.family, world.views)
        for selection in selections:
            names = [selection.prefix + name for name in selection.features]
            if wanted in {selection.view.name, *names}:
                chosen = names if wanted == selection.view.name else [wanted]
                self.features = tuple(chosen)
                self._shift(
                    world, selection, [name.removeprefix(selection.prefix) for name in chosen]
                )
                return
        known = [s.prefix + name for s in selections for name in s.features]
        views = [s.view.name for s in selections]
        from mlops_assets.declaration import unknown_name

        said = unknown_name(wanted, "feature or view of the family", [*views, *known])
        raise ReplayError(f"{self.fault}: {said}")

    def _shift(self, world: World, selection: Selection, names: Sequence[str]) -> None:
        table, lake = selection.view.table, world.platform.lake
        since = f"{quote(selection.view.event_time)} >= $since"
        schema = lake.schema(table)
        with lake.connect(tables=[table]) as con:
            kinds = {row[0]: str(row[1]) for row in con.execute(f"DESCRIBE {table.sql}").fetchall()}
            [(rows,)] = con.execute(
                f"SELECT count(*) FROM {table.sql} WHERE {since}", {"since": self.fault.day}
            ).fetchall()
            if not rows:
                raise ReplayError(
                    f"{self.fault}: {table} has no row from that day on, so nothing would drift"
                )
            shifted = ", ".join(
                f"CASE WHEN {since} THEN {_shifted(name, kinds[name])} ELSE {quote(name)} END "
                f"AS {quote(name)}"
                for name in names
            )
            con.execute(
                f"CREATE TEMP TABLE shifted AS SELECT * REPLACE ({shifted}) FROM {table.sql}, "
                f"(SELECT {', '.join(_spread(name, kinds[name]) for name in names)} "
                f"FROM {table.sql}) AS spreads",
                {"since": self.fault.day},
            )
            columns = ", ".join(quote(name) for name in schema.names)
            reader = con.sql(f"SELECT {columns} FROM shifted").to_arrow_reader(100_000)
            lake.overwrite(table, reader.cast(schema))

    def evening(self, world: World, day: date) -> Evening:
        """Say when it begins."""
        del world
        if day != self.fault.day:
            return Evening()
        return Evening([f"fault: {', '.join(self.features)} shifted from here on"])

    def outcome(self, world: World, days: Sequence[ReplayedDay]) -> FaultOutcome:
        """Tell on which day all that can be seen of it was seen."""
        del world
        after = [day for day in days if day.day >= self.fault.day]
        half = max(1, len(self.features) // 2)
        for day in after:
            seen = [name for name in self.features if name in day.drifted]
            if len(seen) >= half:
                delay = (day.day - self.fault.day).days
                said = f"{len(seen)} of {len(self.features)} shifted features seen on {day.day}"
                return FaultOutcome(str(self.fault), True, said, delay)
        said = f"not seen in {len(after)} days"
        return FaultOutcome(str(self.fault), False, said)


def _spread(name: str, kind: str) -> str:
    """Return the SQL of how much a column varies; it is there for every column, used or not."""
    number = kind.startswith(_NUMBERS)
    return f"{f'stddev({quote(name)})' if number else 'NULL'} AS {quote('@' + name)}"


def _shifted(name: str, kind: str) -> str:
    column = quote(name)
    if kind == "BOOLEAN":
        return f"NOT {column}"
    if kind.startswith(_NUMBERS):
        return f"CAST({column} + {_SHIFT} * coalesce({quote('@' + name)}, 1) AS {kind})"
    return f"CASE WHEN {column} IS NOT NULL THEN '{_ODD_LEVEL}' END"


# A bad model --------------------------------------------------------------------------------------


@dataclass
class BadModel:
    """A version that has learnt upside-down labels serves from the next day on."""

    fault: Fault
    version: int | None = None

    def prepare(self, world: World) -> None:
        """Refuse where nothing would be taken back."""
        if world.family.rollback.metric_drop is None:
            raise ReplayError(
                f"{self.fault}: {world.family.name} declares no rollback.metric_drop, so nothing "
                "is taken back by itself; declare one"
            )

    def evening(self, world: World, day: date) -> Evening:
        """Train it and promote it, as somebody in a hurry would."""
        if day != self.fault.day:
            return Evening()
        from mlops_assets.production.replay.bad_model import make_bad_model
        from mlops_assets.registry import ModelReference, promote_by_hand

        registry = world.platform.registry
        bad = make_bad_model(world.platform, world.family, world.champion())
        promote_by_hand(
            registry,
            ModelReference(bad.family, bad.version),
            actor="replay",
            reason=f"injected: {self.fault}",
        )
        self.version = bad.version
        world.trained_at[bad.version] = world.now
        return Evening(
            [f"fault: {bad}, which has learnt upside-down labels, was promoted by hand"],
            changed=True,
        )

    def outcome(self, world: World, days: Sequence[ReplayedDay]) -> FaultOutcome:
        """Tell when it was taken back."""
        limit = world.family.rollback.window_days
        for day in days:
            if day.rolled_back_to is not None and day.champion == self.version:
                delay = (day.day - self.fault.day).days
                said = (
                    f"{world.family.name}/{self.version} was taken back after {delay} days of "
                    f"service, on {day.day}, for {world.family.name}/{day.rolled_back_to}; "
                    f"{limit} are allowed (rollback.window_days)"
                )
                return FaultOutcome(str(self.fault), delay <= limit, said, delay)
        said = f"{world.family.name}/{self.version} was never taken back"
        return FaultOutcome(str(self.fault), False, said)


# Raw files ----------------------------------------------------------------------------------------


@dataclass
class _RawFault:
    fault: Fault
    raw: RawDays
    was: int = 0
    found: dict[str, bool] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        return str(self.raw.table)

    def scored(self, world: World) -> int:
        """Count the rows of the fault's day that there are to score."""
        family = world.family
        table = TableName.parse(family.spine.table)
        with world.platform.lake.connect(tables=[table]) as con:
            [(rows,)] = con.execute(
                f"SELECT count(*) FROM {table.sql} "
                f"WHERE CAST({quote(family.split_column)} AS DATE) = $day",
                {"day": self.fault.day},
            ).fetchall()
        return int(rows)


@dataclass
class BrokenFile(_RawFault):
    """The day's file holds every row twice: its contract refuses it. A mended one comes later."""

    def prepare(self, world: World) -> None:
        """Take the day away: it has not come yet."""
        lake = world.platform.lake
        self.whole = self.raw.rows(lake, self.fault.day)
        self.was = self.scored(world)
        if not self.was:
            raise ReplayError(f"{self.fault}: there is no row of that day")
        self.raw.forget(lake, self.fault.day)

    def evening(self, world: World, day: date) -> Evening:
        """Bring the broken file, and the mended one the day after."""
        if day == self.fault.day:
            return self._broken(world)
        if day == self.fault.day + timedelta(days=1):
            return self._mended(world)
        return Evening()

    def _broken(self, world: World) -> Evening:
        import pyarrow as pa

        from mlops_assets.ingestion import SourceRefusedError
        from mlops_assets.quality import BatchRefused

        lake, table = world.platform.lake, self.raw.table
        before = lake.version(table)
        try:
            self.raw.land(
                lake,
                self.fault.day,
                pa.concat_tables([self.whole, self.whole]),
                world.platform.settings.home / "landing",
            )
        except (BatchRefused, SourceRefusedError) as error:
            self.found["refused"] = True
            self.found["the table stayed as it was"] = lake.version(table) == before
            what = str(error).splitlines()[0]
            noticed = Occurrence(
                AlertKind.failed_check,
                self.subject,
                key=str(self.fault.day),
                what=what,
                asset=self.subject,
                day=self.fault.day,
                next_step="Mend the file and materialise the day again.",
            )
            return Evening([f"fault: the file of {self.fault.day} is refused: {what}"], [noticed])
        self.found["refused"] = False
        return Evening(
            ["fault: the broken file was not refused"], corrected=self.fault.day, changed=True
        )

    def _mended(self, world: World) -> Evening:
        lake = world.platform.lake
        folder = world.platform.settings.home / "landing"
        self.raw.land(lake, self.fault.day, self.whole, folder)
        self.found["the mended file brought all rows"] = self.scored(world) == self.was
        return Evening(
            [f"fault: the mended file of {self.fault.day} came, {self.was:,} rows"],
            mended=[(AlertKind.failed_check, self.subject)],
            corrected=self.fault.day,
            changed=True,
        )

    def outcome(self, world: World, days: Sequence[ReplayedDay]) -> FaultOutcome:
        """Tell whether it was refused, told, and mended."""
        del world
        on_day = next(day for day in days if day.day == self.fault.day)
        told = any(alert.startswith("failed_check") for alert in on_day.alerts)
        return _outcome(self.fault, {**self.found, "an alert was raised": told}, 0)


@dataclass
class LateCorrection(_RawFault):
    """A third of the day's rows are missing at first; days later the whole file comes."""

    def prepare(self, world: World) -> None:
        """Bring the file in part."""
        lake = world.platform.lake
        self.whole = self.raw.rows(lake, self.fault.day)
        self.was = self.scored(world)
        if self.was < 3:
            raise ReplayError(f"{self.fault}: there are {self.was} rows of that day, too few")
        part = self.whole.filter([place % 3 != 0 for place in range(len(self.whole))])
        self.raw.land(lake, self.fault.day, part, world.platform.settings.home / "landing")
        self.found["rows were missing at first"] = self.scored(world) < self.was

    def evening(self, world: World, day: date) -> Evening:
        """Bring the whole file."""
        if day != self.fault.day + timedelta(days=_LATE_DAYS):
            return Evening()
        lake = world.platform.lake
        missing = self.was - self.scored(world)
        self.raw.land(lake, self.fault.day, self.whole, world.platform.settings.home / "landing")
        self.found["the correction brought all rows"] = self.scored(world) == self.was
        return Evening(
            [f"fault: a correction of {self.fault.day} came, with {missing:,} rows more"],
            corrected=self.fault.day,
            changed=True,
        )

    def outcome(self, world: World, days: Sequence[ReplayedDay]) -> FaultOutcome:
        """Tell whether predictions and labels of the day are whole."""
        del days
        whole = world.predictions().get(self.fault.day, 0) == self.was
        found = {**self.found, "every row of the day was answered": whole}
        return _outcome(self.fault, found, _LATE_DAYS)


def _outcome(fault: Fault, found: dict[str, bool], delay: int) -> FaultOutcome:
    said = "; ".join(name if true else f"NOT: {name}" for name, true in found.items())
    return FaultOutcome(str(fault), all(found.values()), said, delay)
