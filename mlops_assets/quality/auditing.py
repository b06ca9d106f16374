"""The audit: one relation judged against one contract, before anything is committed.

What belongs here: the order of judgement (structure first, then every rule in one scan) and the
report made of it. `publishing.py` decides what happens to the batch.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaError, SchemaErrorReason, SchemaErrors

from mlops_assets.lake import Window
from mlops_assets.quality import selection
from mlops_assets.quality.batch import Batch, opened
from mlops_assets.quality.contract import Contract, contract_hash, schema_of
from mlops_assets.quality.contract_rules import Kind, Rule
from mlops_assets.quality.errors import ContractError
from mlops_assets.quality.evaluation import Counts, Evaluation, rules_for
from mlops_assets.quality.report import AuditReport, CheckResult, Failure, Scope


def audit(
    con: duckdb.DuckDBPyConnection,
    relation_name: str,
    contract: type[Contract],
    *,
    window: Window | None = None,
    samples: int = 20,
) -> AuditReport:
    """Judge a relation against its contract.

    Parameters
    ----------
    con
        A DuckDB session whose time zone is UTC.
    relation_name
        The batch: a table, a view or ``schema.name``, written as in SQL. Provenance columns and
        ``_refusals``, which staging adds, are understood and need not be there.
    contract
        What the batch must look like.
    window
        The window the batch replaces; rows outside it are refused.
    samples
        Failures to keep for each rule. Counts are always exact.

    Returns
    -------
    AuditReport
        One verdict for each rule of the contract, also where it passed.

    Raises
    ------
    ContractError
        When a check crashes. Bad data never raises.
    """
    with opened(con, relation_name, window) as batch:
        return judge(batch, contract, samples=samples).report


@dataclass(frozen=True)
class Judgement:
    """An audit's report, with what is needed to select rows by it.

    Attributes
    ----------
    report
        What was found.
    judged
        The evaluated rules and their counts; None where the structure was wrong, so that no rule
        could be judged.
    """

    report: AuditReport
    judged: tuple[Evaluation, Counts] | None


def judge(batch: Batch, contract: type[Contract], *, samples: int) -> Judgement:
    """Audit an open batch; see `audit`."""
    name, fingerprint = contract.__name__, contract_hash(contract)
    problems = tuple(_structure_problems(batch, contract))
    if problems:
        rows = batch.count_rows()
        checks = tuple(
            _result(rule, len(problems), problems[:samples], "structure")
            if rule.kind is Kind.structure
            else _result(rule, 0, (), "row", evaluated=False)
            for rule in rules_for(batch, contract)
        )
        return Judgement(AuditReport(name, fingerprint, rows, rows, checks), None)
    evaluation = Evaluation(batch, contract)
    counts = evaluation.counts()
    cases = selection.samples(evaluation, counts, samples)
    failures = {**counts.by_row, **counts.by_batch}
    if failures.get("readable"):
        failures["readable"] = evaluation.unreadable_values()
    checks = tuple(
        _result(rule, failures.get(rule.name, 0), cases.get(rule.name, ()), _scope(rule, counts))
        for rule in evaluation.rules
    )
    report = AuditReport(name, fingerprint, counts.rows, counts.refused_rows, checks)
    return Judgement(report, (evaluation, counts))


def _scope(rule: Rule, counts: Counts) -> Scope:
    if rule.kind is Kind.structure:
        return "structure"
    return "batch" if rule.name in counts.by_batch else "row"


def _result(
    rule: Rule,
    failures: int,
    samples: tuple[Failure, ...],
    scope: Scope,
    *,
    evaluated: bool = True,
) -> CheckResult:
    return CheckResult(
        name=rule.name,
        column=rule.column,
        rule=rule.rule,
        description=rule.description,
        failures=failures,
        samples=samples,
        severity=rule.severity,
        scope=scope,
        evaluated=evaluated,
    )


def _structure_problems(batch: Batch, contract: type[Contract]) -> Iterator[Failure]:
    """Let Pandera judge columns and types on the relation without its rows."""
    schema = schema_of(contract)
    data = batch.table.select(list(batch.columns))
    try:
        # Said here, so that no environment variable of Pandera's can switch it off.
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_ONLY):
            schema.validate(data.limit(0), lazy=True)
    except SchemaErrors as errors:
        for error in errors.schema_errors:
            yield from _structure_failures(error, tuple(schema.columns), data.columns)


def _structure_failures(
    error: SchemaError, declared: tuple[str, ...], found: tuple[str, ...]
) -> Iterator[Failure]:
    case = str(error.failure_cases)
    match error.reason_code:
        case SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME:
            spare = [name for name in found if name not in declared]
            close = difflib.get_close_matches(case, spare, n=1)
            hint = f"; is it the column {close[0]!r}?" if close else ""
            yield Failure(None, case, None, f"column {case!r} is missing{hint}")
        case SchemaErrorReason.COLUMN_NOT_IN_SCHEMA:
            # Pandera stops at the first; the owner of the file wants them all.
            for name in (name for name in found if name not in declared):
                yield Failure(None, name, None, f"column {name!r} is not in the contract")
        case SchemaErrorReason.WRONG_DATATYPE:
            name = str(error.schema.name)
            words = f"column {name!r} has type {case}, not {error.schema.dtype}"
            yield Failure(None, name, None, words)
        case SchemaErrorReason.COLUMN_NOT_ORDERED:
            yield Failure(None, case, None, f"column {case!r} is out of order")
        case _:
            raise ContractError(f"Pandera reported an unknown structural error: {error}") from error
