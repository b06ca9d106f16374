"""What an audit found: plain frozen values, free of Pandera and DuckDB.

What belongs here: the report and the sentences made from it. Nothing here reads data.
"""

from dataclasses import dataclass
from typing import Literal

Scope = Literal["structure", "row", "batch"]


@dataclass(frozen=True)
class Failure:
    """One sample of what broke a rule.

    Attributes
    ----------
    row
        The row's position in the batch in reading order, from 1; None where no row is to blame.
    column
        The column, or several for a key; None for a rule on the whole batch.
    value
        The offending value as text, cut at 200 characters; None for null.
    rule
        The rule in words.
    source, source_row
        The file, query or function the row was read from and its position there, where known.
    """

    row: int | None
    column: str | None
    value: str | None
    rule: str
    source: str | None = None
    source_row: int | None = None

    def __str__(self) -> str:
        """Return ``flights.csv, row 17: distance = -5 breaks "at least 0"``."""
        row = self.source_row if self.source_row is not None else self.row
        place = ", ".join(
            part for part in (self.source, None if row is None else f"row {row}") if part
        )
        value = "null" if self.value is None else self.value
        told = f'{self.column} = {value} breaks "{self.rule}"'
        if self.column is None or (self.row is None and self.value is None):
            told = self.rule
        return f"{place}: {told}" if place else told


@dataclass(frozen=True)
class CheckResult:
    """The verdict on one rule.

    Attributes
    ----------
    name, column, rule, description, severity
        As the `Rule` says.
    failures
        How many rows (``scope="row"``; the ``readable`` rule: values), columns
        (``scope="structure"``) or batches broke it: exact.
    samples
        Up to the asked number of failures, in reading order.
    scope
        ``row`` where single rows can be refused for it; otherwise the whole batch is.
    evaluated
        False where the structure was so wrong that the rule could not be judged.
    """

    name: str
    column: str | None
    rule: str
    description: str
    failures: int
    samples: tuple[Failure, ...] = ()
    severity: Literal["error", "warn"] = "error"
    scope: Scope = "row"
    evaluated: bool = True

    @property
    def passed(self) -> bool:
        """Whether the rule was judged and nothing broke it."""
        return self.evaluated and self.failures == 0

    @property
    def told(self) -> str:
        """The verdict in words: ``12 rows break "origin: one of EWR, JFK, LGA"``."""
        rule = f"{self.column}: {self.rule}" if self.column else self.rule
        if self.scope == "batch":
            return f'the batch breaks "{rule}"'
        unit = "column" if self.scope == "structure" else "row"
        counted = f"1 {unit} breaks" if self.failures == 1 else f"{self.failures:,} {unit}s break"
        return f'{counted} "{rule}"'


@dataclass(frozen=True)
class AuditReport:
    """What an audit of one batch found.

    Attributes
    ----------
    contract
        The contract's name.
    contract_hash
        Hash of its types and rules; see `contract_hash`.
    rows
        Rows in the batch.
    refused_rows
        Rows that break at least one row-level rule of severity ``error``; all rows where the
        structure is wrong.
    checks
        One verdict a rule, in the order of `rules`.
    """

    contract: str
    contract_hash: str
    rows: int
    refused_rows: int
    checks: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether no rule of severity ``error`` was broken."""
        return not self.broken

    @property
    def broken(self) -> tuple[CheckResult, ...]:
        """The rules of severity ``error`` that were broken."""
        return tuple(c for c in self.checks if c.failures and c.severity == "error")

    @property
    def is_malformed(self) -> bool:
        """Whether the structure is so wrong that no row could be judged."""
        return any(check.scope == "structure" for check in self.broken)

    @property
    def refuses_batch(self) -> bool:
        """Whether a rule was broken that no single row answers for."""
        return any(check.scope != "row" for check in self.broken)

    @property
    def refused_share(self) -> float:
        """Refused rows over all rows, 0 for an empty batch."""
        return self.refused_rows / self.rows if self.rows else 0.0

    def check(self, name: str) -> CheckResult:
        """Return the verdict on the rule called ``name``.

        Raises
        ------
        KeyError
            Listing the rules there are.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no rule {name!r} in {', '.join(c.name for c in self.checks)}")

    def failures(self, limit: int) -> tuple[Failure, ...]:
        """Return up to ``limit`` failures, taken in turn from every broken rule."""
        queues = [check.samples for check in self.broken]
        depth = max((len(queue) for queue in queues), default=0)
        in_turn = [q[i] for i in range(depth) for q in queues if i < len(q)]
        return tuple(in_turn[:limit])

    def explain(self, limit: int = 10) -> str:
        """Return the broken rules with their counts, and the first ``limit`` failures, as text."""
        lines = [check.told for check in self.broken]
        return "\n".join([*lines, *(f"  {failure}" for failure in self.failures(limit))])
