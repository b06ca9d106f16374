"""The audit policy: how much may be wrong with a batch before all of it is refused.

What belongs here: bounds on the batch as a whole, and their verdicts in the report. Rules on rows
and values belong to the contract.
"""

from collections.abc import Iterator
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
        Fewest rows a batch may have. By default 1 for a snapshot, which without rows would empty
        its table, and 0 otherwise: a day may have no events.
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
    policy: AuditPolicy, report: AuditReport, mode: Mode, published_rows: int | None
) -> Iterator[CheckResult]:
    """Judge a batch as a whole.

    Parameters
    ----------
    policy, report
        The bounds, and the batch's audit.
    mode
        How the batch is to be published.
    published_rows
        Rows of the version that a snapshot replaces; None where there is none.

    Yields
    ------
    CheckResult
        ``refused_share`` and ``row_count``, and ``shrinkage`` where the policy bounds it.
    """
    share = report.refused_share
    verdict = _verdict(
        "refused_share",
        f"at most {policy.max_refused_share:.2%} of the rows refused",
        f"{share:.2%} of the rows were refused, at most {policy.max_refused_share:.2%} may be",
        broken=share > policy.max_refused_share and not report.is_malformed,
    )
    yield replace(verdict, evaluated=not report.is_malformed)
    low = policy.min_rows if policy.min_rows is not None else int(mode == "snapshot")
    high = policy.max_rows
    allowed = f"at least {low:,} rows" if high is None else f"{low:,} to {high:,} rows"
    yield _verdict(
        "row_count",
        allowed,
        f"the batch has {report.rows:,} rows, the policy asks for {allowed}",
        broken=report.rows < low or (high is not None and report.rows > high),
    )
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
