"""Which rows of a judged batch pass, which do not, and samples of why.

What belongs here: the SQL that selects rows by the verdicts of `evaluation.py`. Nothing is decided
here and nothing is written.
"""

from collections.abc import Sequence

from mlops_assets.lake.schemas import literal, quoted
from mlops_assets.quality.batch import (
    INSIDE,
    REFUSALS,
    ROW,
    UNREADABLE_COLUMNS,
    VIEW,
    Batch,
    json_of_row,
)
from mlops_assets.quality.contract import columns
from mlops_assets.quality.contract_rules import Kind
from mlops_assets.quality.evaluation import Counts, Evaluation, PanderaRule, RowRule
from mlops_assets.quality.report import Failure

_VALUE_LENGTH = 200
_REASONS = "STRUCT(column_name VARCHAR, rule VARCHAR, value VARCHAR)[]"


def samples(evaluation: Evaluation, counts: Counts, limit: int) -> dict[str, tuple[Failure, ...]]:
    """Return up to ``limit`` failures of each broken rule by its name, in the order of the source.

    Parameters
    ----------
    evaluation, counts
        The judged batch.
    limit
        Failures to keep for each rule.
    """
    batch = evaluation.batch
    broken = [r for r in evaluation.broken(counts) if r.rule.kind is not Kind.readable]
    found: dict[str, tuple[Failure, ...]] = {}
    if broken:
        lists = ", ".join(
            f"min_by({{'row': {ROW}, 'source': {batch.source}, 'source_row': {batch.source_row}, "
            f"'value': {_offending(r)}}}, {batch.key_of_order}, {limit}) FILTER ({r.flag})"
            for r in broken
        )
        row = batch.row(f"{evaluation.marked(counts)} SELECT {lists} FROM marked")
        for rule, cases in zip(broken, row, strict=True):
            column = ", ".join(rule.columns) or None
            found[rule.rule.name] = tuple(
                Failure(column=column, rule=rule.rule.rule, **case) for case in cases
            )
    if counts.by_row.get("readable"):
        found["readable"] = _unreadable(batch, limit)
    for pandera_rule in evaluation.pandera_rules:
        if counts.by_batch[pandera_rule.rule.name]:
            found[pandera_rule.rule.name] = _pandera_samples(pandera_rule, limit)
    return found


def accepted(evaluation: Evaluation, counts: Counts) -> str:
    """Return the SQL of the rows that pass: the contract's columns in order, then provenance."""
    batch = evaluation.batch
    declared = [
        quoted(column.name)
        if column.name in batch.columns
        else f"NULL::{column.duckdb_type} AS {quoted(column.name)}"
        for column in columns(evaluation.contract)
    ]
    selected = ", ".join([*declared, *batch.provenance])
    if not counts.refused_rows:
        return f"SELECT {selected} FROM {VIEW}"
    return (
        f"{evaluation.marked(counts)} "
        f"SELECT {selected} FROM marked WHERE NOT ({evaluation.refused(counts)})"
    )


def refused(evaluation: Evaluation, counts: Counts, verdict: str | None = None) -> str:
    """Return the SQL of what goes to quarantine.

    Parameters
    ----------
    evaluation, counts
        The judged batch.
    verdict
        Why the whole batch is refused; None to take only the rows that are.

    Returns
    -------
    str
        Columns ``source``, ``source_hash``, ``source_row``, ``reasons``, ``payload``, and the part
        of the window that the row belongs to as ``window_start`` and ``window_end``: its day.
    """
    reasons = ", ".join(
        f"CASE WHEN {rule.flag} THEN "
        f"{_reason(', '.join(rule.columns), rule.rule.rule, _offending(rule))} END"
        for rule in evaluation.broken(counts, "error")
        if rule.rule.kind is not Kind.readable
    )
    own = f"list_filter([{reasons}]::{_REASONS}, lambda reason: reason IS NOT NULL)"
    where = "" if verdict is not None else f"WHERE {evaluation.refused(counts)}"
    with_clause = evaluation.marked(counts)
    return f"{with_clause} {_quarantined(evaluation.batch, own, verdict)} FROM marked {where}"


def refused_unjudged(batch: Batch, verdict: str) -> str:
    """Return the SQL of a whole batch whose structure is wrong; columns as in `refused`."""
    return f"{_quarantined(batch, f'[]::{_REASONS}', verdict)} FROM {VIEW}"


def _quarantined(batch: Batch, reasons: str, verdict: str | None) -> str:
    if batch.is_staged:
        reasons += f" || coalesce({REFUSALS}, [])::{_REASONS}"
    if verdict is not None:
        reasons += f" || [{_reason(None, verdict, 'NULL')}]::{_REASONS}"
    start, end = _place(batch)
    return (
        f"SELECT {batch.source} AS source, {batch.source_hash} AS source_hash, "
        f"{batch.source_row} AS source_row, {reasons} AS reasons, {json_of_row(batch)} AS payload, "
        f"{start} AS window_start, {end} AS window_end"
    )


def _place(batch: Batch) -> tuple[str, str]:
    """Return the SQL of the day a row belongs to; null where it has none inside the window."""
    window = batch.window
    if window is None or INSIDE not in batch.table.columns:
        return "NULL::TIMESTAMPTZ", "NULL::TIMESTAMPTZ"
    known = INSIDE
    if batch.is_staged:  # a day that was refused while it was read is none to go by
        known += f" AND NOT list_contains({UNREADABLE_COLUMNS}, {literal(window.column)})"
    day = f"date_trunc('day', TRY_CAST({quoted(window.column)} AS TIMESTAMPTZ))"
    start = f"greatest({day}, TIMESTAMPTZ {literal(window.start.isoformat())})"
    end = f"least({day} + INTERVAL 1 DAY, TIMESTAMPTZ {literal(window.end.isoformat())})"
    return f"CASE WHEN {known} THEN {start} END", f"CASE WHEN {known} THEN {end} END"


def _unreadable(batch: Batch, limit: int) -> tuple[Failure, ...]:
    rows = batch.con.execute(
        f"""
        SELECT {ROW}, {batch.source}, {batch.source_row},
            refusal.column_name, refusal.rule, left(refusal.value, {_VALUE_LENGTH})
        FROM {VIEW}, unnest({REFUSALS}) AS refusals(refusal)
        ORDER BY {batch.key_of_order}, refusal.column_name
        LIMIT {limit}
        """
    ).fetchall()
    return tuple(
        Failure(row=row, column=column, value=value, rule=rule, source=source, source_row=at)
        for row, source, at, column, rule, value in rows
    )


def _pandera_samples(rule: PanderaRule, limit: int) -> tuple[Failure, ...]:
    cases = rule.result.failure_cases.limit(limit).to_pyarrow().to_pylist()
    return tuple(
        Failure(
            row=None,
            column=", ".join(case),
            value=", ".join(str(value) for value in case.values())[:_VALUE_LENGTH],
            rule=rule.rule.rule,
        )
        for case in cases
    )


def _offending(rule: RowRule) -> str:
    """Return the SQL of the value that broke a rule; of a key also where the other row stands."""
    value = _value(rule.columns)
    return value if rule.place is None else f"concat({value}, ' (', {rule.place}, ')')"


def _value(names: Sequence[str]) -> str:
    """Return the SQL of the offending value: itself, or ``a=1, b=2`` for several columns."""
    if not names:
        return "NULL::VARCHAR"
    if len(names) == 1:
        return f"left({quoted(names[0])}::VARCHAR, {_VALUE_LENGTH})"
    pairs = ", ".join(
        f"{literal(f'{name}=')} || coalesce({quoted(name)}::VARCHAR, 'null')" for name in names
    )
    return f"left(concat_ws(', ', {pairs}), {_VALUE_LENGTH})"


def _reason(column: str | None, rule: str, value: str) -> str:
    named = "NULL" if not column else literal(column)
    return f"{{'column_name': {named}, 'rule': {literal(rule)}, 'value': {value}}}"
