"""The log never holds a token or a traceback, whoever writes to it and how."""

import io
import logging
from collections.abc import Iterator

import pytest

from mlops_assets.serving.security import guard_logs, redact
from mlops_assets.serving.security.redaction import where

SECRET = "mlops_" + "Ab-_" * 10 + "xyz"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    before = logging.getLogRecordFactory()
    guard_logs()
    stream = io.StringIO()
    logger = logging.getLogger("test.redaction")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        ("authorization: bearer opaque.token/x=", "authorization: bearer ***"),
        (f"/predict?token={SECRET}&x=1", "/predict?token=***&x=1"),
        (f"[(b'authorization', b'Bearer {SECRET}')]", "[(b'authorization', b'Bearer ***')]"),
        ("the bearer of news", "the bearer *** news"),
        ("nothing secret", "nothing secret"),
    ],
)
def test_tokens_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_whatever_way_a_token_comes_it_is_hidden(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = log
    logger.info("sent Bearer %s", SECRET)
    logger.info("sent Bearer %s", "opaque")
    logger.info(f"sent {SECRET}")  # noqa: G004 - one of the ways
    logger.info("headers %r", {b"authorization": f"Bearer {SECRET}".encode()})
    logger.info("by name %(token)s", {"token": SECRET})
    logger.info("too many", SECRET)  # noqa: PLE1205 - one of the ways
    logger.info(ValueError(f"bad {SECRET}"))
    logger.info("%d of %s, 100 %%", 3, "plain")
    shown = stream.getvalue()
    assert SECRET not in shown
    assert "opaque" not in shown
    assert "3 of plain, 100 %" in shown
    assert len(shown.splitlines()) == 8


def test_a_traceback_becomes_the_place(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    try:
        int("secret of a customer")
    except ValueError:
        logger.exception("failed at 100 %")
        logger.exception("failed at %d %%", 50)
    logger.info("failed", stack_info=True)
    one, two, three = stream.getvalue().splitlines()
    assert one.startswith("failed at 100 % (ValueError at test_redaction.py:")
    assert two.startswith("failed at 50 % (ValueError at test_redaction.py:")
    assert three == "failed"
    assert "customer" not in stream.getvalue()


def test_arguments_stay_apart_for_formatters_that_pick_them(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    record = logging.getLogRecordFactory()(
        *("uvicorn.access", logging.INFO, "x.py", 1, '%s - "%s %s" %d'),
        ("1.2.3.4:5", "GET", f"/?t={SECRET}", 200),
        None,
    )
    assert record.args == ("1.2.3.4:5", "GET", "/?t=***", 200)


def test_guarding_twice_changes_nothing(log: tuple[logging.Logger, io.StringIO]) -> None:
    before = logging.getLogRecordFactory()
    guard_logs()
    assert logging.getLogRecordFactory() is before


def test_the_place_is_the_innermost_one_first() -> None:
    def inner() -> None:
        raise KeyError("x")

    try:
        inner()
    except KeyError as error:
        said = where(error)
    assert said.startswith("KeyError at test_redaction.py:")
    assert " in inner < test_redaction.py:" in said
    assert where(KeyError("x")) == "KeyError at an unknown place"
