"""Incidents as occurrences: who is told of them, the alert rules say."""

from mlops_assets.alerting import Alert, AlertBook, AlertKind, Occurrence
from mlops_assets.lake import Lake
from mlops_assets.production.incidents import Incident, incidents


def record_incidents(book: AlertBook, lake: Lake) -> tuple[Alert, ...]:
    """Raise alerts about incidents, and close those whose incident is over.

    An incident that was over before anybody looked is told all the same: its alert is raised now
    and closed by the next call, so that there is time to send it.

    Parameters
    ----------
    book
        Takes the alerts. An incident that it knows changes nothing, while it is open as well.
    lake
        Holds the incidents.

    Returns
    -------
    tuple of Alert
        Those that were raised or repeated.

    Raises
    ------
    LakeError
        When the lake cannot be read or written.
    """
    found = incidents(lake)
    known = {
        key: alert.is_open
        for alert in book.alerts()
        if alert.occurrence.kind is AlertKind.incident
        for key in alert.keys
    }
    open_subjects = {_subject(each) for each in found if each.is_open}
    over = {
        _subject(each): each
        for each in found
        if known.get(each.incident_id) and _subject(each) not in open_subjects
    }
    for subject, incident in over.items():
        book.resolve(
            AlertKind.incident, [subject], f"{incident.resolved_by}: {incident.resolution}"
        )
    return book.record(
        _occurrence(each) for each in found if each.is_open or each.incident_id not in known
    )


def _subject(incident: Incident) -> str:
    return f"{incident.kind}/{incident.subject}"


def _occurrence(incident: Incident) -> Occurrence:
    return Occurrence(
        AlertKind.incident,
        _subject(incident),
        incident.incident_id,
        f"{incident.what} {incident.done}",
        incident.severity,
        asset=incident.asset,
        family=incident.family,
        since=incident.at,
        next_step=f"See the evidence: mlops incidents show {incident.incident_id}; when it is "
        f"over: mlops incidents resolve {incident.incident_id} --how …",
    )
