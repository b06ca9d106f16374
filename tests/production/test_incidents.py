"""Incidents: opened and resolved once each, found by their ids, and told through alerts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_assets.alerting import AlertBook, AlertKind, AlertsDeclaration, Severity
from mlops_assets.alerting.delivering import deliver
from mlops_assets.alerting.sinks import open_sinks
from mlops_assets.lake import Lake
from mlops_assets.production.errors import IncidentNotFoundError, ProductionError
from mlops_assets.production.incident_alerts import record_incidents
from mlops_assets.production.incidents import (
    INCIDENTS,
    Incident,
    IncidentKind,
    find_incident,
    incidents,
    open_incident,
    resolve_incident,
)
from mlops_assets.settings import load_settings
from tests.alerting.receivers import mail_server, webhook
from tests.servers import free_port

AT = datetime(2013, 11, 20, 12, tzinfo=UTC)
ROLLBACK = Incident(
    IncidentKind.model_rollback,
    "flight_delay",
    "3-2",
    AT,
    Severity.error,
    what="flight_delay/3 broke a limit: roc_auc is 0.6",
    done="flight_delay/2 serves again.",
    by="automatic rollback",
    evidence={"champion": 3, "target": 2},
    asset="flight_delay/champion",
    family="flight_delay",
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.from_settings(load_settings(home=tmp_path))


def test_an_incident_is_opened_and_resolved_once(lake: Lake) -> None:
    assert incidents(lake) == ()
    assert open_incident(lake, ROLLBACK)
    assert not open_incident(lake, ROLLBACK)
    [opened] = incidents(lake)

    over = resolve_incident(
        lake, ROLLBACK.incident_id[:5], by="ada", how="retrained", at=AT + timedelta(days=1)
    )

    assert opened == ROLLBACK
    assert opened.is_open
    assert incidents(lake) == (over,)
    assert (over.resolved_by, over.resolution) == ("ada", "retrained")
    assert over.evidence == {"champion": 3, "target": 2}
    with pytest.raises(ProductionError, match="was resolved by ada at 2013-11-21 12:00Z"):
        resolve_incident(lake, ROLLBACK.incident_id, by="bob", how="again", at=AT)
    assert lake.describe(INCIDENTS).rows == 2


def test_another_time_is_another_incident_and_the_same_one_is_not(lake: Lake) -> None:
    again = Incident(**{**vars(ROLLBACK), "key": "4-2", "at": AT + timedelta(days=2)})
    retold = Incident(**{**vars(ROLLBACK), "what": "told otherwise"})
    for each in (ROLLBACK, again, retold):
        open_incident(lake, each)

    assert incidents(lake) == (ROLLBACK, again)


def test_one_that_is_not_there_is_refused(lake: Lake) -> None:
    open_incident(lake, ROLLBACK)

    with pytest.raises(IncidentNotFoundError, match="there is no incident 'nothing'"):
        find_incident(lake, "nothing")
    with pytest.raises(ProductionError, match="has no time zone"):
        open_incident(lake, Incident(**{**vars(ROLLBACK), "at": datetime(2013, 1, 1)}))  # noqa: DTZ001 - the point


def test_an_incident_is_told_by_mail_and_webhook_until_it_is_over(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over real sockets: an SMTP server and an HTTP server on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    declared = AlertsDeclaration.model_validate(
        {
            "sinks": [{"name": "mail", "url": "${MAIL}"}, {"name": "hook", "url": "${HOOK}"}],
            "alerts": [{"name": "models", "kinds": ["incident"], "families": ["flight_*"]}],
        }
    )
    book = AlertBook(lake, declared)
    with mail_server(free_port()) as box, webhook() as hook:
        sinks = open_sinks(declared.sinks, {"MAIL": box.address, "HOOK": hook.address})
        open_incident(lake, ROLLBACK)
        record_incidents(book, lake)
        deliver(book, sinks)
        record_incidents(book, lake)
        deliver(book, sinks)
        resolve_incident(lake, ROLLBACK.incident_id, by="ada", how="retrained", at=AT)
        record_incidents(book, lake)
        deliver(book, sinks)

    title = "ERROR: incident: model_rollback/flight_delay"
    over = "RESOLVED: incident: model_rollback/flight_delay"
    assert [mail["subject"] for mail in box.mails] == [title, over]
    assert [call["title"] for call in hook.calls] == [title, over]
    told = box.mails[0].get_content()
    assert "flight_delay/3 broke a limit: roc_auc is 0.6 flight_delay/2 serves again." in told
    assert f"mlops incidents show {ROLLBACK.incident_id}" in told
    assert "ada: retrained" in hook.calls[1]["message"]
    assert book.open_alerts() == ()


def test_one_that_was_over_before_anybody_looked_is_told_all_the_same(lake: Lake) -> None:
    book = AlertBook(
        lake,
        AlertsDeclaration.model_validate({"alerts": [{"name": "all", "kinds": ["incident"]}]}),
    )
    open_incident(lake, ROLLBACK)
    resolve_incident(lake, ROLLBACK.incident_id, by="ada", how="retrained", at=AT)

    record_incidents(book, lake)
    first = book.open_alerts(AlertKind.incident)
    record_incidents(book, lake)
    record_incidents(book, lake)

    assert len(first) == 1
    assert book.open_alerts() == ()
    assert len(book.alerts()) == 1
