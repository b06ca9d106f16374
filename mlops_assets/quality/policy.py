"""The audit policy: how much may be wrong with a batch before all of it is refused.

What belongs here: bounds on the batch as a whole, and their verdicts in the report. Rules on rows
and values belong to the contract.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from mlops_assets.lake import Window
from mlops_assets.quality.report import AuditReport, CheckResult, Failure

Mode: TypeAlias = Literal["snapshot", "append"] | Window
"""Replace the whole table, add to it exactly once, or replace one window of it."""


class AuditPolicy(BaseModel):
    """How much may be wrong with a batch before it is refused as a whole.

    Attributes
    ----------
    max_refused_share
        Largest share of refused rows, 0 to 1, at which the other rows are still published.
    min_rows
        Fewest rows a batch may have. Absent: as few as it likes, as long as no day (or, in a
        snapshot, the table) that has published rows would be left without any. 0 says that such
        an emptying is right.
    max_rows
        Most rows a batch may have.
    max_shrinkage
        Largest share of the published rows that a snapshot may lack, 0 to 1.
    samples
        Failures to keep for each rule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_refused_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    min_rows: Annotated[int, Field(ge=0)] | None = None
    max_rows: Annotated[int, Field(ge=0)] | None = None
    max_shrinkage: Annotated[float, Field(ge=0, le=1)] | None = None
    samples: Annotated[int, Field(ge=1, le=1000)] = 20


def policy_checks(
    policy: AuditPolicy,
    report: AuditReport,
    *,
    published_rows: int | None,
    emptied: Sequence[tuple[str, int]],
) -> Iterator[CheckResult]:
    """Judge a batch as a whole.

    Parameters
    ----------
    policy, report
        The bounds, and the batch's audit.
    published_rows
        Rows of the version that a snapshot replaces; None where there is none.
    emptied
        Days, or the table, that the batch would leave without rows, and the rows they have.

    Yields
    ------
    CheckResult
        ``refused_share`` and ``row_count``; ``not_emptied`` unless the policy says that emptying is
        right; ``shrinkage`` where the policy bounds it.
    """
    share = report.refused_share
    verdict = _verdict(
        "refused_share",
        f"at most {policy.max_refused_share:.2%} of the rows refused",
        f"{share:.2%} of the rows were refused, at most {policy.max_refused_share:.2%} may be",
        broken=share > policy.max_refused_share and not report.is_malformed,
    )
    yield replace(verdict, evaluated=not report.is_malformed)
    low = policy.min_rows or 0
    high = policy.max_rows
    allowed = f"at least {low:,} rows" if high is None else f"{low:,} to {high:,} rows"
    yield _verdict(
        "row_count",
        allowed,
        f"the batch has {report.rows:,} rows, the policy asks for {allowed}",
        broken=report.rows < low or (high is not None and report.rows > high),
    )
    if policy.min_rows != 0:
        yield _not_emptied(emptied, policy.samples)
    if policy.max_shrinkage is not None:
        before = published_rows or 0
        lost = 1 - report.rows / before if before else 0.0
        yield _verdict(
            "shrinkage",
            f"at most {policy.max_shrinkage:.2%} fewer rows than the published version",
            f"the batch has {report.rows:,} rows, {lost:.2%} fewer than the {before:,} published; "
            f"at most {policy.max_shrinkage:.2%} may be missing",
            broken=lost > policy.max_shrinkage,
        )


def _not_emptied(emptied: Sequence[tuple[str, int]], samples: int) -> CheckResult:
    return CheckResult(
        name="not_emptied",
        column=None,
        rule="rows wherever rows are published",
        description="The batch leaves nothing empty that has published rows.",
        failures=len(emptied),
        samples=tuple(
            Failure(
                None,
                None,
                None,
                f"{where} has {rows:,} published rows and would be left without any; "
                "say min_rows: 0 if that is right",
            )
            for where, rows in emptied[:samples]
        ),
        scope="batch",
    )


def _verdict(name: str, rule: str, told: str, *, broken: bool) -> CheckResult:
    return CheckResult(
        name=name,
        column=None,
        rule=rule,
        description=f"The batch has {rule}.",
        failures=int(broken),
        samples=(Failure(None, None, None, told),) if broken else (),
        scope="batch",
    )
