"""Incidents: what went wrong in production, what was done about it, and when it was over.

They are events in one append-only Delta table, ``monitoring/incidents``. An incident is opened once
and resolved once, however often somebody tries: its id follows from what it is about and from the
key of its cause. Who is told of it is `mlops_assets.production.incident_alerts`'s.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from mlops_assets.alerting import Severity
from mlops_assets.declaration import did_you_mean
from mlops_assets.lake import Lake, TableName
from mlops_assets.production.errors import IncidentNotFoundError, ProductionError

INCIDENTS = TableName("monitoring", "incidents")
DESCRIPTION = "What went wrong in production: opened and resolved, with what was done. Only grows."
_ID_LENGTH = 12
_OPENED, _RESOLVED = "opened", "resolved"


class IncidentKind(StrEnum):
    """What kind of thing happened."""

    model_rollback = "model_rollback"
    """A version was taken out of service for the one before."""
    rollback_failed = "rollback_failed"
    """It should have been, and could not be."""
    data_corruption = "data_corruption"
    """A published table breaks its rules."""
    data_rollback = "data_rollback"
    """An earlier version of a table was brought back."""
    drill = "drill"
    """An exercise: nothing was wrong."""


@dataclass(frozen=True)
class Incident:
    """One incident as it stands now.

    Attributes
    ----------
    kind, subject
        What kind of thing happened, and to which family or table.
    key
        Which time it is: the decision, the commit. The same kind, subject and key is one incident.
    at
        When it happened, with a zone.
    severity
        How bad it is.
    what
        What happened, in a sentence or two.
    done
        What was done about it.
    by
        Who did: a person, or a part of the platform.
    evidence
        Numbers and names behind it, as JSON values.
    asset, family
        Which asset and which model family it concerns.
    resolved_at, resolved_by, resolution
        When it was over, who says so, and how that is known; None while it is open.
    """

    kind: IncidentKind
    subject: str
    key: str
    at: datetime
    severity: Severity
    what: str
    done: str
    by: str
    evidence: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    asset: str | None = None
    family: str | None = None
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: str | None = None

    @property
    def incident_id(self) -> str:
        """Its name, the same whenever the same thing is told."""
        text = f"{self.kind}\x1f{self.subject}\x1f{self.key}"
        return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return self.resolved_at is None


_COLUMNS = (
    ("incident_id", "string", "Names the incident; both of its events have it."),
    ("event", "string", "opened or resolved."),
    ("at", "instant", "When it happened, or was over."),
    ("recorded_at", "instant", "When that was written down."),
    ("kind", "string", "model_rollback, rollback_failed, data_corruption, data_rollback or drill."),
    ("subject", "string", "The family or the table that it happened to."),
    ("key", "string", "Which time it is; the same one is one incident."),
    ("severity", "string", "info, warning, error or critical."),
    ("what", "string", "What happened; of a resolution, how it is known to be over."),
    ("done", "string", "What was done; null of a resolution."),
    ("by", "string", "Who did it, or says so."),
    ("evidence", "string", "Numbers and names behind it, as JSON; null of a resolution."),
    ("asset", "string", "Asset that it concerns."),
    ("family", "string", "Model family that it concerns."),
)


def open_incident(lake: Lake, incident: Incident) -> bool:
    """Write an incident down, once.

    Parameters
    ----------
    lake
        Keeps it.
    incident
        What happened; not resolved yet.

    Returns
    -------
    bool
        Whether it was written now. It was before otherwise, and stays as it was told first.

    Raises
    ------
    ProductionError
        When its instant has no time zone.
    """
    return _append(
        lake,
        incident.incident_id,
        _OPENED,
        incident.at,
        kind=str(incident.kind),
        subject=incident.subject,
        key=incident.key,
        severity=str(incident.severity),
        what=incident.what,
        done=incident.done,
        by=incident.by,
        evidence=json.dumps(dict(incident.evidence), default=str, allow_nan=False),
        asset=incident.asset,
        family=incident.family,
    )


def resolve_incident(lake: Lake, start: str, *, by: str, how: str, at: datetime) -> Incident:
    """Say that an incident is over, once.

    Parameters
    ----------
    lake
        Keeps it.
    start
        How its id begins.
    by
        Who says so.
    how
        How that is known.
    at
        Since when, with a zone.

    Raises
    ------
    IncidentNotFoundError
        When there is no such incident, or more than one.
    ProductionError
        When it is over already.
    """
    incident = find_incident(lake, start)
    if not incident.is_open:
        raise ProductionError(
            f"incident {incident.incident_id} was resolved by {incident.resolved_by} at "
            f"{incident.resolved_at:%F %R}Z: {incident.resolution}"
        )
    _append(
        lake,
        incident.incident_id,
        _RESOLVED,
        at,
        kind=str(incident.kind),
        subject=incident.subject,
        key=incident.key,
        severity=str(incident.severity),
        what=how,
        by=by,
        asset=incident.asset,
        family=incident.family,
    )
    return find_incident(lake, incident.incident_id)


def incidents(lake: Lake) -> tuple[Incident, ...]:
    """Return every incident, the oldest first."""
    if not lake.exists(INCIDENTS):
        return ()
    rows = lake.read(INCIDENTS).read_all().to_pylist()
    over = {row["incident_id"]: row for row in rows if row["event"] == _RESOLVED}
    opened = [row for row in rows if row["event"] == _OPENED]
    found = [_incident(row, over.get(row["incident_id"])) for row in opened]
    return tuple(sorted(found, key=lambda incident: (incident.at, incident.incident_id)))


def find_incident(lake: Lake, start: str) -> Incident:
    """Return the incident whose id begins like this.

    Raises
    ------
    IncidentNotFoundError
        When there is none, or more than one.
    """
    known = {incident.incident_id: incident for incident in incidents(lake)}
    found = [incident for name, incident in known.items() if start and name.startswith(start)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(incident.incident_id for incident in found[:5])
        raise IncidentNotFoundError(
            f"{start!r} begins several incidents: {names}; write more of it"
        )
    raise IncidentNotFoundError(
        f"there is no incident {start!r}{did_you_mean(start, known)}; `mlops incidents list --all` "
        "lists them"
    )


def _incident(opened: Mapping[str, Any], over: Mapping[str, Any] | None) -> Incident:
    return Incident(
        kind=IncidentKind(opened["kind"]),
        subject=opened["subject"],
        key=opened["key"],
        at=opened["at"],
        severity=Severity(opened["severity"]),
        what=opened["what"],
        done=opened["done"],
        by=opened["by"],
        evidence=MappingProxyType(json.loads(opened["evidence"])),
        asset=opened["asset"],
        family=opened["family"],
        resolved_at=over["at"] if over else None,
        resolved_by=over["by"] if over else None,
        resolution=over["what"] if over else None,
    )


def _append(lake: Lake, incident_id: str, event: str, at: datetime, **values: Any) -> bool:
    import pyarrow as pa

    if at.tzinfo is None:
        raise ProductionError(
            f"{values['subject']}: {at.isoformat()} has no time zone; give one, such as "
            f"{at.replace(tzinfo=UTC).isoformat()}"
        )
    kinds = {"string": pa.string(), "instant": pa.timestamp("us", "UTC")}
    schema = pa.schema(
        [pa.field(name, kinds[kind], metadata={"comment": text}) for name, kind, text in _COLUMNS]
    )
    row = {
        "incident_id": incident_id,
        "event": event,
        "at": at.astimezone(UTC),
        "recorded_at": datetime.now(UTC),
        **values,
    }
    commit = lake.append(
        INCIDENTS,
        pa.Table.from_pylist([row], schema=schema),
        transaction=(f"incident-{incident_id}-{event}", 1),
        description=DESCRIPTION,
    )
    return commit is not None
