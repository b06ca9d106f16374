"""What becomes of what is noticed: raised once, counted, acknowledged, resolved."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from mlops_assets.alerting import (
    LOG,
    AlertBook,
    AlertError,
    AlertKind,
    AlertNotFoundError,
    AlertState,
    Change,
    Occurrence,
    Severity,
    record_serving_events,
)
from mlops_assets.alerting.serving_events import BEGINS, ENDS, UNREMARKABLE
from mlops_assets.lake import Lake, TableName
from mlops_assets.serving.inference_log import EventKind
from tests.alerting.conftest import Clock, NewBook, stale


def changes(book: AlertBook) -> list[Change]:
    return [transition.change for transition in book.log.transitions()]


def test_the_same_occurrence_is_one_alert_however_often_it_is_recorded(
    book: AlertBook, new_book: NewBook
) -> None:
    [raised] = book.record([stale()])
    assert raised.state is AlertState.open
    assert book.record([stale()]) == ()
    assert new_book().record([stale(), stale()]) == ()
    assert changes(book) == [Change.raised]


def test_what_was_noticed_is_kept_whole(book: AlertBook, new_book: NewBook) -> None:
    noticed = stale(
        severity=Severity.warning,
        family="flight_delay",
        day=date(2013, 5, 3),
        value="3 h",
        threshold="2 h",
        since=datetime(2013, 5, 3, 9, tzinfo=UTC),
        next_step="materialise it",
        link="runs/1",
        lasting=False,
    )
    book.record([noticed])
    [alert] = new_book().alerts()
    assert alert.occurrence == noticed
    assert alert.deliveries.keys() == {"hook"}


def test_more_of_the_same_is_counted_while_it_is_open_and_new_after_it_ended(
    book: AlertBook, clock: Clock
) -> None:
    [first] = book.record([stale("1"), stale("2")])
    clock.move(minutes=1)
    assert len(first.keys) == 2
    [ended] = book.resolve(AlertKind.stale_asset, ["raw/flights"], "it is fresh again")
    assert (ended.state, ended.resolved_at) == (AlertState.resolved, clock.now)
    assert book.record([stale("1"), stale("2")]) == ()
    [second] = book.record([stale("3")])
    assert second.alert_id != first.alert_id
    assert [alert.alert_id for alert in book.open_alerts()] == [second.alert_id]
    assert book.open_alerts(AlertKind.drift) == ()


def test_only_what_has_ended_is_resolved(book: AlertBook) -> None:
    book.record([stale(), stale(subject="raw/weather")])
    assert book.resolve(AlertKind.drift, ["raw/flights"], "no drift") == ()
    [ended] = book.resolve(AlertKind.stale_asset, ["raw/flights", "raw/planes"], "fresh")
    assert ended.occurrence.subject == "raw/flights"
    assert book.resolve(AlertKind.stale_asset, ["raw/flights"], "fresh") == ()


def test_rules_choose_by_kind_asset_family_subject_and_badness(new_book: NewBook) -> None:
    book = new_book(
        kinds=["stale_asset"],
        assets=["raw/*"],
        families=["flight_*"],
        subjects=["*flights"],
        at_least="error",
        severity="critical",
    )
    wanted = {"family": "flight_delay"}
    others = (
        stale("asset", asset="marts/fct_flights", **wanted),
        stale("family", family="bikes"),
        stale("no family"),
        stale("subject", subject="raw/weather", **wanted),
        stale("mild", severity=Severity.warning, **wanted),
        Occurrence(AlertKind.drift, "raw/flights", "kind", "x", asset="raw/flights", **wanted),
    )
    assert book.record(others) == ()
    [alert] = book.record([stale("wanted", **wanted)])
    assert alert.occurrence.severity is Severity.critical


def test_acknowledging_says_who_and_is_undone_by_something_worse(book: AlertBook) -> None:
    [alert] = book.record([stale("1", severity=Severity.warning)])
    acknowledged = book.acknowledge(alert.alert_id[:6], by="ada", note="password=hunter22 is wrong")
    assert (acknowledged.state, acknowledged.acknowledged_by) == (AlertState.acknowledged, "ada")
    assert acknowledged.note == "password=*** is wrong"
    [repeated] = book.record([stale("2", severity=Severity.info)])
    assert (repeated.state, repeated.occurrence.severity) == (
        AlertState.acknowledged,
        Severity.warning,
    )
    with pytest.raises(AlertError, match="was acknowledged by ada"):
        book.acknowledge(alert.alert_id, by="bob")
    [worse] = book.record([stale("2", severity=Severity.critical)])
    assert worse.state is AlertState.open
    book.resolve(AlertKind.stale_asset, ["raw/flights"], "fresh")
    with pytest.raises(AlertError, match=r"ended at 2013-05-03 12:00Z \(fresh\)"):
        book.acknowledge(alert.alert_id, by="bob")
    with pytest.raises(AlertNotFoundError, match="no alert 'zzz'"):
        book.find("zzz")


def test_an_acknowledged_incident_is_closed_so_that_the_next_one_is_new(book: AlertBook) -> None:
    def incident(key: str) -> Occurrence:
        return Occurrence(AlertKind.incident, "flight_delay", key, "rolled back", lasting=False)

    [first] = book.record([incident("1")])
    assert book.acknowledge(first.alert_id, by="ada").state is AlertState.resolved
    [second] = book.record([incident("2")])
    assert second.state is AlertState.open


def test_callers_at_the_same_time_raise_one_alert_and_lose_nothing(new_book: NewBook) -> None:
    books = [new_book() for _ in range(3)]
    with ThreadPoolExecutor(len(books)) as pool:
        results = list(
            pool.map(
                lambda place: books[place].record([stale(), stale(f"own {place}")]),
                range(len(books)),
            )
        )
    [alert] = new_book().alerts()
    assert alert.keys == {"1", "own 0", "own 1", "own 2"}
    assert all(results)
    assert changes(new_book()).count(Change.raised) == 1


def test_no_secret_is_kept_and_no_text_is_endless(book: AlertBook, lake: Lake) -> None:
    what = "postgresql://bob:hunter22@db/flights refused " + "x" * 100_000
    [alert] = book.record([stale(what=what, next_step="token=abc12345")])
    assert alert.occurrence.what.startswith("postgresql://bob:***@db/flights")
    assert len(alert.occurrence.what) < 3_000
    kept = str(lake.read(LOG).read_all().to_pylist())
    assert "hunter22" not in kept
    assert "abc12345" not in kept


def test_every_kind_of_event_of_the_server_is_known() -> None:
    assert {*BEGINS, *ENDS, *UNREMARKABLE} == {str(kind) for kind in EventKind}
    assert set(ENDS.values()) <= set(BEGINS)


def test_events_of_the_server_raise_and_end_alerts_once(
    book: AlertBook, lake: Lake, clock: Clock
) -> None:
    def event(minute: int, kind: EventKind, family: str | None = None) -> dict[str, object]:
        at = clock.now.replace(minute=minute)
        return {"event_id": f"{minute}", "at": at, "kind": str(kind), "family": family}

    def ship(*events: dict[str, object]) -> None:
        schema = pa.schema(
            {
                **dict.fromkeys(("event_id", "kind", "family", "message"), pa.string()),
                **dict.fromkeys(("at", "since"), pa.timestamp("us", "UTC")),
                "version": pa.int64(),
            }
        )
        rows = [{"message": "so it is", **one} for one in events]
        lake.append(TableName("inference", "events"), pa.Table.from_pylist(rows, schema=schema))

    assert record_serving_events(book, lake) is None
    ship(
        event(1, EventKind.log_full),
        event(2, EventKind.model_refused, "flight_delay"),
        event(3, EventKind.model_refused, "bikes"),
        event(4, EventKind.log_gap, "flight_delay"),
        event(5, EventKind.canary_started, "flight_delay"),
        event(6, EventKind.model_loaded, "flight_delay"),
    )
    newest = record_serving_events(book, lake)
    assert newest == clock.now.replace(minute=6)

    def open_subjects() -> set[str]:
        return {alert.occurrence.subject for alert in book.open_alerts()}

    left = {"inference_log/full", "inference_log/unreported", "model/bikes"}
    assert open_subjects() == left
    before = len(changes(book))
    assert record_serving_events(book, lake) == newest
    assert len(changes(book)) == before
    ship(event(7, EventKind.log_recovered))
    newest = record_serving_events(book, lake, newest)
    assert open_subjects() == left - {"inference_log/full"}
    ship(*(event(minute, EventKind.model_failed, "bikes") for minute in (8, 9, 10)))
    record_serving_events(book, lake, newest)
    [failing] = [one for one in book.open_alerts() if one.occurrence.subject == "failing/bikes"]
    assert len(failing.keys) == 1  # an hour of failing requests counts once
