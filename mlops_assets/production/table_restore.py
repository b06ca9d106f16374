"""Bringing back an earlier version of a table, and the drill that shows that it works.

Restoring is one commit: nothing is forgotten, and it can be undone. Which version is the last good
one, the table's rules say, judged backwards from the newest. The incident is opened before anything
changes and resolved when the rows have been compared, so that a process that dies in between leaves
it open. What Dagster is told is `mlops_assets.orchestration.restoring`'s.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING

from mlops_assets.alerting import Severity
from mlops_assets.lake import Lake, TableName
from mlops_assets.lake.scratch import private_folder
from mlops_assets.production.errors import RestoreError
from mlops_assets.production.incidents import (
    Incident,
    IncidentKind,
    incidents,
    open_incident,
    resolve_incident,
)
from mlops_assets.production.table_rules import TableRules

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN = 5
_MOST_DOUBLED = 1_000


@dataclass(frozen=True)
class RestoredTable:
    """A table of which an earlier version was brought back.

    Attributes
    ----------
    table
        Which.
    before, good, now
        Its version until then, the one whose rows were brought back, and the new one.
    rows
        Rows that it has now.
    broken
        Rules that it broke before; empty where none was judged.
    incident
        What was recorded.
    """

    table: TableName
    before: int
    good: int
    now: int
    rows: int
    broken: tuple[str, ...]
    incident: Incident


def last_good_version(lake: Lake, table: TableName, rules: TableRules) -> int:
    """Return the newest version before the current one that keeps the table's rules.

    Parameters
    ----------
    lake, table
        Where and which.
    rules
        What must hold.

    Raises
    ------
    RestoreError
        When no earlier version does.
    mlops_assets.lake.LakeError
        When one cannot be read: a vacuum has removed its files.
    """
    tried = []
    for commit in lake.history(table)[1:]:
        if not rules.broken(lake, table, commit.version):
            return commit.version
        tried.append(commit.version)
    raise RestoreError(
        f"{table}: none of its earlier versions keeps the rules"
        + (f" ({tried[-1]} to {tried[0]} were judged)" if tried else "; there is none")
        + ". Materialise it again from its sources."
    )


def restore_table(
    lake: Lake,
    table: TableName,
    *,
    reason: str,
    actor: str,
    version: int | None = None,
    rules: TableRules | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> RestoredTable:
    """Make an earlier version of a table current again, and record an incident.

    Parameters
    ----------
    lake, table
        Where and which.
    reason
        Why; it goes into the commit and the incident.
    actor
        Who asks.
    version
        Which to bring back. Default: the last one that keeps the rules.
    rules
        What must hold of the table; needed to find a version.
    clock
        What time it is.

    Raises
    ------
    RestoreError
        When there is nothing to bring back: the table keeps its rules, or no rule is known and no
        version named, or the version is the current one. Nothing has changed then.
    mlops_assets.lake.LakeError
        When the version cannot be read, or the lake not be written.
    """
    before = lake.version(table)
    broken = rules.broken(lake, table, before) if rules is not None else ()
    good = version if version is not None else _found(lake, table, rules, broken)
    if good == before:
        raise RestoreError(f"{table} is at version {good} already; name an earlier one")
    lake.describe(table, good)  # refuses one that is not there, before anything is recorded
    if lake.version(table) != before:
        raise RestoreError(
            f"{table} has become version {lake.version(table)} while {before} was looked at; look "
            "at it, and ask again if it is to be undone"
        )
    incident = _opened(lake, table, before, good, broken, reason=reason, actor=actor, at=clock())
    notes = {"reason": reason, "actor": actor, "incident": incident.incident_id}
    commit = lake.restore(table, good, metadata=notes)
    rows = _fingerprint(lake, table, commit.version)
    if rows != _fingerprint(lake, table, good):
        raise RestoreError(
            f"{table}: version {commit.version} does not hold the rows of {good}, which it should; "
            f"incident {incident.incident_id} stays open"
        )
    how = f"{table}@{commit.version} holds the {rows[0]:,} rows of version {good} again."
    for each in incidents(lake):
        is_about_it = each.subject == str(table) and each.kind is IncidentKind.data_corruption
        if each.is_open and (is_about_it or each.incident_id == incident.incident_id):
            resolve_incident(lake, each.incident_id, by=actor, how=how, at=clock())
    return RestoredTable(table, before, good, commit.version, rows[0], broken, incident)


def _found(lake: Lake, table: TableName, rules: TableRules | None, broken: tuple[str, ...]) -> int:
    if rules is None:
        raise RestoreError(
            f"{table}: no contract and no dbt test says what is right of it, so no version can be "
            f"found; name one. `mlops tables history {table}` lists them"
        )
    if not broken:
        raise RestoreError(
            f"{table}@{lake.version(table)} keeps all its rules, so nothing says what is wrong "
            f"with it; name the version to bring back. `mlops tables history {table}` lists them"
        )
    return last_good_version(lake, table, rules)


def _opened(
    lake: Lake,
    table: TableName,
    before: int,
    good: int,
    broken: tuple[str, ...],
    *,
    reason: str,
    actor: str,
    at: datetime,
) -> Incident:
    what = f"{table}@{before} was taken back: {reason}"
    if broken:
        what += f". It broke {len(broken)} rules: {'; '.join(broken[:_SHOWN])}"
    incident = Incident(
        IncidentKind.data_rollback,
        str(table),
        f"{before}-{good}",
        at,
        Severity.error if broken else Severity.warning,
        what=what,
        done=f"Version {good} is brought back. What was made of {table} since version {before} is "
        "to be made again.",
        by=actor,
        evidence={"before": before, "good": good, "broken": list(broken)},
        asset=str(table),
    )
    open_incident(lake, incident)
    return incident


def record_corruption(
    lake: Lake, table: TableName, version: int, broken: tuple[str, ...], *, by: str, at: datetime
) -> Incident:
    """Record that a published table breaks its rules, once for each of its versions.

    Parameters
    ----------
    lake, table, version
        Which version of which table.
    broken
        The rules that it breaks.
    by, at
        Who noticed it, and when.
    """
    incident = Incident(
        IncidentKind.data_corruption,
        str(table),
        str(version),
        at,
        Severity.critical,
        what=f"{table}@{version} breaks {len(broken)} rules: {'; '.join(broken[:_SHOWN])}",
        done=f"Nothing yet. To bring the last good version back: mlops restore {table}",
        by=by,
        evidence={"version": version, "broken": list(broken)},
        asset=str(table),
    )
    open_incident(lake, incident)
    return incident


def _fingerprint(lake: Lake, table: TableName, version: int) -> tuple[int, int]:
    """Return how many rows a version has, and a number that depends on all of them."""
    with lake.connect(versions={table: version}, tables=[table]) as con:
        [(rows, total)] = con.execute(
            f"SELECT count(*), coalesce(sum(hash(one)::HUGEINT), 0) FROM {table.sql} AS one"
        ).fetchall()
    return int(rows), int(total)


# The drill ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DrillStep:
    """One step of a drill.

    Attributes
    ----------
    name
        What was to happen.
    outcome
        What did.
    passed
        Whether it is what should.
    seconds
        How long it took.
    """

    name: str
    outcome: str
    passed: bool
    seconds: float


@dataclass(frozen=True)
class Drill:
    """An exercise.

    Attributes
    ----------
    table
        On which table.
    on_copy
        Whether it was a copy, so that nobody saw the corruption.
    steps
        What happened.
    incident
        What was recorded.
    restored
        What bringing it back did; None where the corruption itself could not be written.
    """

    table: TableName
    on_copy: bool
    steps: tuple[DrillStep, ...]
    incident: Incident
    restored: RestoredTable | None

    @property
    def passed(self) -> bool:
        """Whether every step came out as it should."""
        return all(step.passed for step in self.steps)


def drill_table(
    lake: Lake,
    table: TableName,
    rules: TableRules,
    *,
    actor: str,
    on_copy: bool = True,
    say: Callable[[DrillStep], None] = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Drill:
    """Corrupt a table, see its rules notice, bring it back, and compare.

    Some rows are appended a second time, as by a writer that repeats itself past every audit. The
    table is brought back whatever the rules notice.

    Parameters
    ----------
    lake, table
        Where and which.
    rules
        What must hold of it.
    actor
        Who drills.
    on_copy
        Whether to take a copy in a lake of its own, which is removed afterwards. Otherwise readers
        of the table see the corruption for some seconds.
    say
        Is told of each step as it is done.
    clock
        What time it is.

    Raises
    ------
    RestoreError
        When the table is not fit for a drill: it breaks its rules already, or has no row.
    """
    began = clock()
    steps: list[DrillStep] = []
    restored: list[RestoredTable] = []

    def step(name: str, do: Callable[[], tuple[str, bool]]) -> bool:
        since = perf_counter()
        outcome, passed = do()
        steps.append(DrillStep(name, outcome, passed, perf_counter() - since))
        say(steps[-1])
        return passed

    _require_fit(lake, table, rules)
    opened = _copied(lake, table, rules) if on_copy else nullcontext(lake)
    incident = _opened_drill(lake, table, actor, began, on_copy=on_copy)
    with opened as target:
        good = target.version(table)
        wanted = _fingerprint(target, table, good)

        def corrupt() -> tuple[str, bool]:
            doubled = _double_rows(target, table)
            return f"{doubled:,} rows stand twice in {table}@{target.version(table)}", True

        def judge() -> tuple[str, bool]:
            broken = rules.broken(target, table, target.version(table))
            return "; ".join(broken[:_SHOWN]) or "no rule noticed; declare a key", bool(broken)

        def bring_back() -> tuple[str, bool]:
            reason = f"drill {incident.incident_id}"
            done = restore_table(
                target, table, version=good, reason=reason, actor=actor, clock=clock
            )
            restored.append(done)
            return f"{table}@{done.now} has the rows of version {done.good}", True

        def find() -> tuple[str, bool]:
            found = last_good_version(target, table, rules)
            return f"version {found} is the last good one", found == good

        def compare() -> tuple[str, bool]:
            rows = _fingerprint(target, table, target.version(table))
            broken = rules.broken(target, table, target.version(table))
            return f"{rows[0]:,} rows, no rule broken", rows == wanted and not broken

        try:
            step("corrupt the table", corrupt)
            if step("its rules fail", judge):
                step("find the last good version", find)
        finally:
            # Whatever went wrong: nobody wanted the corruption.
            if target.version(table) != good:
                step("bring it back", bring_back)
        step("compare with before", compare)
    drill = Drill(table, on_copy, tuple(steps), incident, restored[0] if restored else None)
    verdict = "passed" if drill.passed else "failed"
    told = "; ".join(f"{s.name}: {s.outcome} ({s.seconds:.1f} s)" for s in steps)
    resolve_incident(
        lake, incident.incident_id, by=actor, how=f"The drill {verdict}. {told}", at=clock()
    )
    return drill


def _require_fit(lake: Lake, table: TableName, rules: TableRules) -> None:
    version = lake.version(table)
    if not lake.describe(table).rows:
        raise RestoreError(f"{table} has no row that could be corrupted; drill on another table")
    if broken := rules.broken(lake, table, version):
        raise RestoreError(
            f"{table}@{version} breaks its rules already: {'; '.join(broken[:_SHOWN])}. This is no "
            f"drill: mlops restore {table}"
        )


def _opened_drill(
    lake: Lake, table: TableName, actor: str, at: datetime, *, on_copy: bool
) -> Incident:
    incident = Incident(
        IncidentKind.drill,
        str(table),
        at.isoformat(),
        at,
        Severity.info,
        what=f"Drill: {'a copy of ' if on_copy else ''}{table} is corrupted and brought back.",
        done="Nothing needs to be done.",
        by=actor,
        asset=str(table),
    )
    open_incident(lake, incident)
    return incident


def _copied(lake: Lake, table: TableName, rules: TableRules) -> AbstractContextManager[Lake]:
    """Make a lake of copies of a table and of what its rules read, for the length of a block."""

    @contextmanager
    def copied() -> "Iterator[Lake]":
        with private_folder(lake.limits.scratch, "drill-") as folder:
            copy = Lake(str(folder / "lake"), limits=lake.limits)
            for name in (table, *rules.reads):
                copy.overwrite(name, lake.read(name))
            yield copy

    return copied()


def _double_rows(lake: Lake, table: TableName) -> int:
    """Append some rows of a table to it a second time; return how many."""
    rows = lake.describe(table).rows
    doubled = max(1, min(_MOST_DOUBLED, rows // 100))
    with lake.connect(tables=[table]) as con:
        again = con.sql(f"SELECT * FROM {table.sql} LIMIT {doubled}").to_arrow_table()
    lake.append(table, again.cast(lake.schema(table)), metadata={"drill": "rows are doubled"})
    return doubled
