"""Messages arrive at real places: once each, also when a place is down for a while."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from mlops_assets.alerting import (
    LOG,
    TEST_TEXT,
    AlertBook,
    AlertKind,
    AlertSink,
    Deliveries,
    Occurrence,
    Severity,
    Sink,
    Unrecorded,
    deliver,
    open_sinks,
)
from mlops_assets.alerting.delivering import STORM
from mlops_assets.lake import Lake
from tests.alerting.conftest import Clock, NewBook, declaration, stale
from tests.alerting.receivers import Hook, mail_server, webhook
from tests.servers import free_port


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with webhook() as hook:
        monkeypatch.setenv("HOOK_URL", hook.address)
        yield hook


def send(book: AlertBook, *, ui_url: str = "", at_once: bool = False) -> Deliveries:
    return deliver(book, open_sinks(book.declaration.sinks), ui_url=ui_url, at_once=at_once)


def titles(hook: Hook) -> list[str]:
    return [call["title"] for call in hook.calls]


RAISED = "ERROR: stale asset: raw/flights"
STILL = "STILL ERROR: stale asset: raw/flights"
RESOLVED = "RESOLVED: stale asset: raw/flights"


def test_an_alert_is_sent_once_and_says_all_there_is(book: AlertBook, hook: Hook) -> None:
    book.record(
        [
            stale(
                family="flight_delay",
                value="3 h",
                threshold="2 h",
                next_step="materialise raw/flights",
            )
        ]
    )
    done = send(book, ui_url="https://dagster.example.com/")
    assert (len(done.sent), done.failed, done.waiting) == (1, (), 0)
    assert send(book).sent == ()
    [call] = hook.calls
    [alert] = book.alerts()
    assert (call["title"], call["type"]) == (RAISED, "failure")
    assert call["message"].splitlines() == [
        "raw/flights is stale",
        "",
        "Where: asset raw/flights, family flight_delay",
        "Value: 3 h; allowed: 2 h",
        "Since: 2013-05-03 12:00Z",
        "Next step: materialise raw/flights",
        "Look: https://dagster.example.com/assets/raw/flights",
        "",
        (
            f"Alert {alert.alert_id}, by the rule everything. "
            f"To silence it: mlops alerts acknowledge {alert.alert_id}"
        ),
    ]


def test_a_repeat_is_sent_after_the_cooldown_with_the_count(
    book: AlertBook, hook: Hook, clock: Clock
) -> None:
    for minute in range(5):
        book.record([stale(f"{minute}")])
        send(book)
        clock.move(minutes=10)
    assert titles(hook) == [RAISED]
    clock.move(minutes=10)
    send(book)
    send(book)
    assert titles(hook) == [RAISED, STILL]
    assert "Seen: 5 times, last 2013-05-03 12:40Z" in hook.calls[-1]["message"]
    clock.move(hours=2)
    send(book)
    assert len(hook.calls) == 2, "nothing was noticed since"
    book.record([stale("4")])
    send(book)
    assert titles(hook) == [RAISED, STILL, STILL], "it goes on, although nothing is new"


def test_something_worse_does_not_wait(book: AlertBook, hook: Hook) -> None:
    book.record([stale("1")])
    send(book)
    book.record([stale("2", severity=Severity.critical)])
    send(book)
    assert titles(hook) == [RAISED, STILL.replace("ERROR", "CRITICAL")]


def test_acknowledging_silences_repeats_and_not_the_end(
    book: AlertBook, hook: Hook, clock: Clock
) -> None:
    [alert] = book.record([stale("1")])
    send(book)
    book.acknowledge(alert.alert_id, by="ada")
    clock.move(hours=5)
    book.record([stale("2")])
    send(book)
    assert titles(hook) == [RAISED]
    book.resolve(AlertKind.stale_asset, ["raw/flights"], "materialised at noon")
    send(book)
    send(book)
    assert titles(hook) == [RAISED, RESOLVED]
    assert hook.calls[-1]["type"] == "success"
    assert "Ended: 2013-05-03 17:00Z: materialised at noon" in hook.calls[-1]["message"]


def test_what_comes_and_goes_is_sent_once_in_a_cooldown(
    book: AlertBook, hook: Hook, clock: Clock
) -> None:
    for key in "123":
        book.record([stale(key)])
        send(book)
        book.resolve(AlertKind.stale_asset, ["raw/flights"], "fresh")
        send(book)
        clock.move(minutes=10)
    assert titles(hook) == [RAISED, RESOLVED]
    book.record([stale("4")])
    assert send(book).sent == ()
    clock.move(hours=1)
    send(book)
    assert titles(hook) == [RAISED, RESOLVED, RAISED]


def test_each_sink_is_on_its_own_and_one_that_was_down_is_told_once(
    new_book: NewBook, hook: Hook, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv(
        "MAIL_URL",
        f"mailto://localhost:{port}?smtp=127.0.0.1&from=mlops@example.com&to=on-call@example.com",
    )
    book = new_book(sinks=("mail", "hook"))
    book.record([stale(), stale(subject="raw/weather")])
    done = send(book)
    assert sorted(sent.sink for sent in done.sent) == ["hook", "hook"]
    assert [sent.sink for sent in done.failed] == ["mail"], "one that is down is asked once a call"
    assert {alert.undelivered for alert in book.alerts()} == {("mail",)}

    with mail_server(port) as box:
        done = send(book)
        assert [sent.sink for sent in done.sent] == ["mail"], "the other one has a pause"
        clock.move(seconds=31)
        send(book)
        clock.move(hours=1)
        assert send(book).sent == ()
    assert sorted(mail["subject"] for mail in box.mails) == [
        RAISED,
        RAISED.replace("flights", "weather"),
    ]
    assert box.mails[0]["to"] == "on-call@example.com"
    assert "raw/flights is stale" in box.mails[0].get_content()
    assert sorted(titles(hook)) == sorted(mail["subject"] for mail in box.mails)
    assert not any(alert.undelivered for alert in book.alerts())


def test_pauses_grow_and_a_hand_need_not_wait(book: AlertBook, hook: Hook, clock: Clock) -> None:
    hook.status = 503
    book.record([stale()])
    [failed] = send(book).failed
    assert failed.problem is not None
    assert "503" in failed.problem
    for pause in (30, 60, 120):
        clock.move(seconds=pause - 1)
        assert send(book).failed == (), pause
        clock.move(seconds=1)
        assert len(send(book).failed) == 1, pause
    hook.status = 200
    assert send(book).sent == ()
    assert len(send(book, at_once=True).sent) == 1


def test_what_ended_before_anybody_was_told_is_not_sent(book: AlertBook, hook: Hook) -> None:
    book.record([stale()])
    book.resolve(AlertKind.stale_asset, ["raw/flights"], "fresh")
    assert send(book) == Deliveries()
    assert hook.calls == []


def test_a_sink_that_is_not_set_up_is_said_and_keeps_its_messages(
    book: AlertBook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    book.record([stale()])
    for url, said in ((None, "HOOK_URL is not set"), ("gopher://x/secret-part", "no address")):
        if url:
            monkeypatch.setenv("HOOK_URL", url)
        done = send(book)
        assert said in done.unusable["hook"]
        assert "secret-part" not in str(done)
    assert len(book.log.transitions()) == 1
    with webhook() as hook:
        monkeypatch.setenv("HOOK_URL", hook.address)
        assert len(send(book).sent) == 1


def test_callers_at_the_same_time_send_a_message_once(new_book: NewBook, hook: Hook) -> None:
    new_book().record([stale()])
    hook.may_answer.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, new_book())
        assert hook.asked.wait(60)
        meanwhile = send(new_book(), at_once=True)
        hook.may_answer.set()
        assert len(first.result().sent) == 1
    assert meanwhile == Deliveries()
    assert titles(hook) == [RAISED]


def test_a_caller_killed_while_sending_delays_its_message_and_loses_none(
    new_book: NewBook, hook: Hook, clock: Clock, tmp_path: Path
) -> None:
    new_book().record([stale()])
    program = f"""
import os, signal
from datetime import datetime
from pathlib import Path
from mlops_assets.alerting import Sink, deliver, open_sinks
from mlops_assets.alerting import AlertBook
from mlops_assets.lake import Lake
from mlops_assets.settings import load_settings
from tests.alerting.conftest import declaration
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
Sink.send = killed
lake = Lake.from_settings(load_settings(home=Path({str(tmp_path)!r})))
book = AlertBook(lake, declaration(), lambda: datetime.fromisoformat({clock.now.isoformat()!r}))
deliver(book, open_sinks(book.declaration.sinks))
"""
    killed = subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    book = new_book()
    assert send(book).sent == (), "the claim of the killed one holds"
    clock.move(seconds=5 + 30)
    assert len(send(book).sent) == 1
    assert titles(hook) == [RAISED]


def test_a_sink_that_hangs_holds_nobody_up_for_long(
    new_book: NewBook, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("DEAF_URL", f"json://127.0.0.1:{deaf.getsockname()[1]}?rto=5")
        book = new_book(sinks=("deaf", "hook"))
        book.record([stale()])
        done = deliver(book, open_sinks(book.declaration.sinks), within=timedelta(seconds=2))
    assert [sent.sink for sent in done.sent] == ["hook"]
    assert [sent.problem for sent in done.failed] == ["no answer within 2 s"]


def test_what_a_name_holds_stays_text(
    new_book: NewBook, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "<script>alert(1)</script> [here](http://evil.example)\r\nBcc: all@example.com"
    port = free_port()
    address = f"mailto://localhost:{port}?smtp=127.0.0.1&from=a@example.com&to=b@example.com"
    monkeypatch.setenv("MAIL_URL", f"{address}&format=html")
    monkeypatch.setenv("MARKDOWN_URL", f"{hook.address}?format=markdown")
    book = new_book(sinks=("mail", "markdown", "hook"))
    book.record([Occurrence(AlertKind.drift, evil, "1", evil)])
    with mail_server(port) as box:
        assert len(send(book).sent) == 3
    [mail] = box.mails
    assert mail["bcc"] is None
    html = mail.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;" in html.get_content()
    plain, markdown = sorted((call["message"] for call in hook.calls), key=len)
    assert plain.startswith(
        "<script>alert(1)</script> [here](http://evil.example) Bcc: all@example.com\n"
    )
    assert "\\[here\\]\\(http" in markdown


def test_no_part_of_an_address_is_kept_or_said(
    new_book: NewBook,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(
        "HOOK_URL", "json://someuser:hunter22@127.0.0.1:9/tokentoken?+X-Key=headerkey"
    )
    book = new_book()
    book.record([stale()])
    done = send(book)
    assert len(done.failed) == 1
    shown = f"{done!r} {done} {open_sinks(book.declaration.sinks)!r}"
    kept = str(lake.read(LOG).read_all().to_pylist())
    for secret in ("hunter22", "tokentoken", "headerkey"):
        assert secret not in shown
        assert secret not in kept
        assert secret not in caplog.text


def test_an_address_may_be_in_a_file(tmp_path: Path, hook: Hook) -> None:
    secret = tmp_path / "address"
    declared = AlertSink(name="hook", url_file=secret)
    assert Sink.of(declared).problem == f"the file {secret} cannot be read: {os.strerror(2)}"
    secret.write_text(f"{hook.address}\n")
    assert Sink.of(declared).send(TEST_TEXT) is None
    assert len(hook.calls) == 1


def test_many_small_files_are_joined(
    book: AlertBook, hook: Hook, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_assets.alerting.log._FILES", 2)
    for key in "123":
        book.record([stale(key)])
    send(book)
    assert lake.describe(LOG).files == 1
    assert len(book.alerts()[0].keys) == 3
    book.record([stale("4")])
    assert len(book.alerts()[0].keys) == 4


def test_a_storm_is_one_message_and_everyone_in_it_has_been_told(
    book: AlertBook, hook: Hook
) -> None:
    storm = [stale(subject=f"raw/t{number}", asset=f"raw/t{number}") for number in range(STORM + 1)]
    book.record(storm)

    sent = send(book, ui_url="http://dagster.example.com")
    again = send(book)
    book.resolve(AlertKind.stale_asset, [each.subject for each in storm], "the source is back")
    send(book)

    assert len(sent.sent) == STORM + 1
    assert again == Deliveries()
    assert titles(hook) == [
        f"ERROR: {STORM + 1} alerts of everything",
        f"RESOLVED: {STORM + 1} alerts of everything",
    ]
    told = hook.calls[0]["message"]
    assert all(f"stale asset: raw/t{number}:" in told for number in range(STORM + 1))
    assert all(alert.alert_id in told for alert in book.alerts())


def test_a_storm_that_could_not_be_sent_is_sent_later_as_one(
    book: AlertBook, hook: Hook, clock: Clock
) -> None:
    book.record([stale(subject=f"raw/t{number}") for number in range(STORM + 1)])
    hook.status = 500
    failed = send(book)
    hook.status = 200
    clock.move(minutes=1)
    send(book)

    assert len(failed.failed) == STORM + 1
    assert titles(hook) == [f"ERROR: {STORM + 1} alerts of everything"]


def test_what_cannot_be_kept_is_told_at_once_and_once_in_a_cooldown(
    clock: Clock, hook: Hook
) -> None:
    unrecorded = Unrecorded(declaration(), clock)
    sinks = open_sinks(declaration().sinks)
    full = Occurrence(AlertKind.inference_log, "inference_log/full", "1", "The disk is full.")

    hook.status = 500
    [failed] = unrecorded.tell(full, sinks)
    hook.status = 200
    [sent] = unrecorded.tell(full, sinks)
    silent = unrecorded.tell(full, sinks)
    clock.move(hours=2)
    unrecorded.tell(full, sinks)

    assert failed.problem is not None
    assert sent.problem is None
    assert silent == ()
    assert titles(hook) == ["ERROR: inference log: inference_log/full"] * 2
