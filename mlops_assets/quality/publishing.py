"""Write, audit, publish: the only way a batch becomes rows of a table.

What belongs here: what happens to a batch once it is judged: refused rows to quarantine, accepted
rows to the table, or the whole batch to quarantine and the table left as it was.

The order makes a crash harmless. Quarantine is written first, where each refused row has one place
of its own; then the table, by one Delta commit. A retry of the same batch does the first again to
no effect and does the second; nothing is lost and nothing doubled.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from mlops_assets.lake import Commit, Lake, TableName, Window
from mlops_assets.lake.schemas import literal
from mlops_assets.quality import selection
from mlops_assets.quality.auditing import judge
from mlops_assets.quality.batch import Batch, opened
from mlops_assets.quality.contract import Contract, arrow_schema
from mlops_assets.quality.errors import BatchRefused, QualityError
from mlops_assets.quality.policy import AuditPolicy, Mode, policy_checks
from mlops_assets.quality.publications import WINDOW, window_metadata
from mlops_assets.quality.published import published_rows
from mlops_assets.quality.quarantine import (
    QUARANTINE_SCHEMA,
    Reason,
    described,
    quarantine_batch,
    quarantine_name,
    quarantine_rows,
)
from mlops_assets.quality.report import AuditReport

_BATCH_ROWS = 65_536
_NAMED_SOURCES = 20
_SHOWN = 10

_PROVENANCE_FIELDS = pa.schema(
    [
        described("_source", pa.string(), "File, query or function the row was read from."),
        described("_source_hash", pa.string(), "SHA-256 of that source."),
        described("_source_row", pa.int64(), "Row in the source, from 1."),
        described("_loaded_at", pa.timestamp("us", "UTC"), "When the source was read."),
    ]
)


@dataclass(frozen=True)
class Publication:
    """What became of a published batch.

    Attributes
    ----------
    commit
        The commit that holds it; None where an append had been applied before.
    report
        What the audit found.
    quarantined
        Rows of this batch that are in quarantine.
    rows
        Rows that were accepted.
    """

    commit: Commit | None
    report: AuditReport
    quarantined: int
    rows: int


def publish(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    relation_name: str,
    contract: type[Contract],
    table: TableName,
    *,
    mode: Mode,
    batch_id: str,
    policy: AuditPolicy | None = None,
    metadata: Mapping[str, Any] | None = None,
    allow_schema_change: bool = False,
) -> Publication:
    """Audit a batch, put what it refuses in quarantine and commit the rest.

    A row is refused for any rule it breaks. Of a key that occurs more than once every row is
    refused, also where the rows are alike: nobody can know which one is right, and what comes
    first is chance. A row is refused as well where its key is published already, in a row that
    stays beside the batch; two batches that are published at the same moment are not compared.

    Parameters
    ----------
    lake, table
        Where the batch goes.
    con, relation_name
        The session that holds the batch, and its relation as written in SQL. The relation must
        give the same rows each time it is read; if it does not, nothing is committed.
    contract
        What the batch must look like.
    mode
        ``"snapshot"``, ``"append"``, or the `Window` that the batch replaces.
    batch_id
        The same for every retry of one batch, different for every other. An append applies a
        batch once.
    policy
        When to refuse the whole batch; by default `AuditPolicy()`.
    metadata
        JSON values to record in the commit, beside batch id, contract, its hash, counts and
        source hashes.
    allow_schema_change
        Whether the commit may add or change columns of the table.

    Returns
    -------
    Publication

    Raises
    ------
    BatchRefused
        When the structure is wrong, a rule on the whole batch is broken, too many rows are refused,
        there are too few or too many, or a day that has rows would have none. Every row is then in
        quarantine, and the table is as it was.
    ContractError
        When a check crashes; nothing is written.
    QualityError
        When the relation changed while it was published; the table is as it was.
    """
    policy = policy or AuditPolicy()
    window = mode if isinstance(mode, Window) else None
    with (
        published_rows(lake, con, table, mode, batch_id) as published,
        opened(con, relation_name, window, published) as batch,
    ):
        judgement = judge(batch, contract, samples=policy.samples)
        emptied = []
        if published and judgement.judged and mode != "append":
            emptied = published.emptied(selection.accepted(*judgement.judged))
        verdicts = policy_checks(
            policy,
            judgement.report,
            published_rows=published.rows if published else None,
            emptied=emptied,
        )
        report = replace(judgement.report, checks=(*judgement.report.checks, *verdicts))
        target = _Target(lake, table, mode, batch_id, dict(metadata or {}), allow_schema_change)
        if judgement.judged is None:
            query = selection.refused_unjudged(batch, _verdict(report))
            raise target.refuse(batch, report, query)
        evaluation, counts = judgement.judged
        if report.refuses_batch:
            query = selection.refused(evaluation, counts, _verdict(report))
            raise target.refuse(batch, report, query)
        if report.refused_rows:
            query = selection.refused(evaluation, counts)
            target.quarantine(batch, query, report.refused_rows)
        commit = target.commit(batch, contract, report, selection.accepted(evaluation, counts))
    return Publication(commit, report, report.refused_rows, report.rows - report.refused_rows)


@dataclass(frozen=True)
class _Target:
    """Where a judged batch goes, and under which name."""

    lake: Lake
    table: TableName
    mode: Mode
    batch_id: str
    metadata: dict[str, Any]
    allow_schema_change: bool

    def refuse(self, batch: Batch, report: AuditReport, query: str) -> BatchRefused:
        """Quarantine every row; return the error to raise."""
        if report.rows:
            self.quarantine(batch, query, report.rows)
        else:
            quarantine_batch(
                self.lake,
                self.table,
                [Reason(_verdict(report))],
                batch_id=self.batch_id,
                refused_at=datetime.now(UTC),
                window=batch.window,
            )
        quarantine = str(quarantine_name(self.table))
        return BatchRefused(self._told(report, quarantine), report, quarantine, self.batch_id)

    def quarantine(self, batch: Batch, query: str, rows: int) -> None:
        """Put what ``query`` selects into the quarantine table, each row once."""
        refused_at = datetime.now(UTC).isoformat()
        data = self._stream(
            batch,
            f"""
            SELECT {literal(str(self.table))} AS table_name, {literal(self.batch_id)} AS batch_id,
                source, source_hash, source_row,
                TIMESTAMPTZ {literal(refused_at)} AS refused_at, reasons, payload,
                window_start, window_end, {self._row_id(batch)} AS row_id
            FROM ({query})
            """,
            QUARANTINE_SCHEMA,
            rows,
        )
        quarantine_rows(self.lake, self.table, data, batch_id=self.batch_id)

    def _row_id(self, batch: Batch) -> str:
        """Return the SQL of what a refused row is known by, whatever batch brings it again."""
        if {"_source", "_source_hash", "_source_row"} <= set(batch.provenance):
            return "md5(to_json([source, source_hash, source_row::VARCHAR, payload])::VARCHAR)"
        # Without provenance a row has no number that would be the same in a retry.
        copy = "row_number() OVER (PARTITION BY payload)"
        return f"md5(to_json([{literal(self.batch_id)}, payload, {copy}::VARCHAR])::VARCHAR)"

    def commit(
        self, batch: Batch, contract: type[Contract], report: AuditReport, query: str
    ) -> Commit | None:
        """Commit the accepted rows, which ``query`` selects."""
        provenance = [_PROVENANCE_FIELDS.field(name) for name in batch.provenance]
        schema = pa.schema([*arrow_schema(contract), *provenance])
        rows = report.rows - report.refused_rows
        metadata = {
            **self.metadata,
            "batch_id": self.batch_id,
            "contract": report.contract,
            "contract_hash": report.contract_hash,
            "accepted_rows": rows,
            "refused_rows": report.refused_rows,
            "sources": _sources(batch.sources()),
        }
        if batch.window is not None:
            metadata[WINDOW] = window_metadata(batch.window)
        data = self._stream(batch, query, schema, rows)
        how: dict[str, Any] = {
            "metadata": metadata,
            "allow_schema_change": self.allow_schema_change,
            "description": " ".join((contract.__doc__ or "").split()),
        }
        if self.mode == "snapshot":
            return self.lake.overwrite(self.table, data, **how)
        if self.mode == "append":
            transaction = (f"batch/{self.batch_id}", 1)
            return self.lake.append(self.table, data, transaction=transaction, **how)
        return self.lake.overwrite_window(self.table, data, self.mode, **how)

    def _stream(
        self, batch: Batch, query: str, schema: pa.Schema, rows: int
    ) -> Callable[[], pa.RecordBatchReader]:
        """Stream a query as ``schema``, anew whenever a commit that lost a race is tried again.

        The stream fails at its end if it had not ``rows`` rows.
        """

        def batches() -> Iterator[pa.RecordBatch]:
            seen = 0
            for part in batch.con.sql(query).to_arrow_reader(_BATCH_ROWS):
                seen += part.num_rows
                arrays = [part.column(i).cast(field.type) for i, field in enumerate(schema)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
            if seen != rows:
                raise QualityError(
                    f"{self.table}: the batch {self.batch_id!r} had {rows:,} rows to write when it "
                    f"was audited and {seen:,} when it was read again. Nothing was committed. Copy "
                    "the source into a table of the session before publishing it."
                )

        return lambda: pa.RecordBatchReader.from_batches(schema, batches())

    def _told(self, report: AuditReport, quarantine: str) -> str:
        kept = "was not created"
        if self.lake.exists(self.table):
            kept = f"stays at version {self.lake.version(self.table)}"
        share = f"{report.refused_rows:,} of {report.rows:,} rows ({report.refused_share:.2%})"
        return f"""{self.table}: batch {self.batch_id!r} breaks the contract {report.contract}.
{share} were refused.
{report.explain(_SHOWN)}
The whole batch is in quarantine: table {quarantine}, batch_id {self.batch_id!r}.
{self.table} {kept}.
Correct the source and publish it again; if the data are right, correct contract or policy."""


def _verdict(report: AuditReport) -> str:
    """Return why the batch as a whole is refused."""
    broken = [check for check in report.broken if check.scope != "row"]
    causes = [str(f) for check in broken for f in check.samples] or [c.rule for c in broken]
    more = sum(check.failures for check in broken) - len(causes[:_SHOWN])
    ending = f"; and {more:,} more" if more > 0 else ""
    return f"batch refused: {'; '.join(causes[:_SHOWN])}{ending}"


def _sources(sources: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the sources and their hashes; of many, their number and a hash over them."""
    if len(sources) <= _NAMED_SOURCES:
        return dict(sources)
    digest = hashlib.sha256(json.dumps(sources).encode()).hexdigest()
    return {"count": len(sources), "sha256": digest}
