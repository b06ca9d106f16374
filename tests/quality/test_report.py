"""The sentences that a report makes."""

import pytest

from mlops_assets.quality import AuditReport, CheckResult, Failure


def result(name: str, failures: int, **more: object) -> CheckResult:
    fields = {"column": "origin", "rule": "one of EWR, JFK", "description": "", **more}
    return CheckResult(name=name, failures=failures, **fields)


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (result("a", 1), '1 row breaks "origin: one of EWR, JFK"'),
        (result("a", 1200), '1,200 rows break "origin: one of EWR, JFK"'),
        (result("a", 1, scope="batch", column=None), 'the batch breaks "one of EWR, JFK"'),
        (result("a", 2, scope="structure", column=None), '2 columns break "one of EWR, JFK"'),
    ],
)
def test_a_verdict_in_words(check, told):
    assert check.told == told


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure(3, "x", "-1", "at least 0"), 'row 3: x = -1 breaks "at least 0"'),
        (Failure(3, "x", None, "not null"), 'row 3: x = null breaks "not null"'),
        (
            Failure(3, "x", "-1", "at least 0", "a.csv", 17),
            'a.csv, row 17: x = -1 breaks "at least 0"',
        ),
        (Failure(None, "x", None, "column 'x' is missing"), "column 'x' is missing"),
        (Failure(9, None, None, "too long", "a.csv", 9), "a.csv, row 9: too long"),
    ],
)
def test_a_failure_in_words(failure, told):
    assert str(failure) == told


def test_failures_are_taken_in_turn_from_every_rule():
    first = tuple(Failure(row, "x", "1", "r") for row in range(3))
    second = (Failure(9, "y", "1", "s"),)
    report = AuditReport(
        "C", "0", 10, 4, (result("a", 3, samples=first), result("b", 1, samples=second))
    )
    assert [failure.row for failure in report.failures(3)] == [0, 9, 1]


def test_a_warning_is_not_among_the_broken():
    report = AuditReport("C", "0", 10, 0, (result("a", 3, severity="warn"),))
    assert report.ok
    assert not report.check("a").passed


def test_an_unknown_rule_is_told_with_the_known_ones():
    report = AuditReport("C", "0", 10, 0, (result("a", 0), result("b", 0)))
    with pytest.raises(KeyError, match="no rule 'c' in a, b"):
        report.check("c")
