"""The history of a table: what each commit was, read from the Delta log."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from deltalake import CommitProperties, DeltaTable, Transaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Names of metrics that count the rows a commit added or changed, by delta-rs and by Spark.
_ROWS_WRITTEN = (
    ("num_added_rows",),
    ("num_target_rows_inserted", "num_target_rows_updated"),
    ("numTargetRowsInserted", "numTargetRowsUpdated"),
    ("numOutputRows",),
)
_USER_METADATA = "userMetadata"
_PARAMETERS = "operationParameters"
_TRANSACTION = "transaction"


@dataclass(frozen=True)
class Commit:
    """One version of a table and how it came to be.

    Attributes
    ----------
    version
        Delta version.
    timestamp
        When it was committed, in UTC.
    operation
        What Delta calls it: ``WRITE``, ``MERGE``, ``RESTORE``, ``OPTIMIZE``, ``CREATE TABLE``, ...
    rows_written
        Rows the commit added or changed; None where it does not say.
    metadata
        What the caller of the write gave. Other Delta readers see it as ``userMetadata`` (JSON).
    details
        Everything else in the commit's record: mode, predicate, metrics, engine.
    """

    version: int
    timestamp: datetime
    operation: str
    rows_written: int | None
    metadata: Mapping[str, Any]
    details: Mapping[str, Any]


def properties(
    metadata: Mapping[str, Any],
    transaction: tuple[str, int] | None = None,
    *,
    exclusive: bool = False,
) -> CommitProperties:
    """Return what delta-rs needs for a commit.

    Parameters
    ----------
    metadata
        JSON values to record.
    transaction
        An application transaction to record.
    exclusive
        Whether the commit must fail when any other came first. By default delta-rs looks whether
        the two touch the same rows, and goes on if they do not.
    """
    given = dict(metadata)
    if transaction is not None:
        given[_TRANSACTION] = list(transaction)
    return CommitProperties(
        custom_metadata={_USER_METADATA: json.dumps(given, sort_keys=True)} if given else None,
        max_commit_retries=0 if exclusive else None,
        app_transactions=None if transaction is None else [Transaction(*transaction)],
    )


def commits(table: DeltaTable, limit: int | None = None) -> tuple[Commit, ...]:
    """Return the commits of a table up to the version it was opened at, newest first."""
    return tuple(_commit(record) for record in table.history(limit))


def version_at(history: tuple[Commit, ...], moment: datetime) -> int | None:
    """Return the version that was current at ``moment``, None if there was none yet.

    Clocks of different writers differ, so a commit counts as no older than those before it.
    """
    found, latest = None, _EPOCH
    for commit in reversed(history):
        latest = max(latest, commit.timestamp)
        if latest > moment:
            break
        found = commit.version
    return found


def is_applied(table: DeltaTable, transaction: tuple[str, int]) -> bool:
    """Tell whether the rows of an application transaction are in the table.

    Delta remembers the highest version of each application. It does not forget it when the table is
    restored to before that commit, though the rows are gone then; so a restore is looked up in the
    history, and the transaction may be applied again.
    """
    application, version = transaction
    recorded = table.transaction_version(application)
    if recorded is None or recorded < version:
        return False
    visible_to: int | None = None
    restored = False
    for commit in commits(table):
        if visible_to is not None and commit.version > visible_to:
            continue
        known = commit.metadata.get(_TRANSACTION)
        if known is not None and known[0] == application and known[1] >= version:
            return True
        if commit.operation == "RESTORE" and "version" in commit.details.get(_PARAMETERS, {}):
            visible_to = int(commit.details[_PARAMETERS]["version"])
            restored = True
    return not restored


def _commit(record: dict[str, Any]) -> Commit:
    details = dict(record)
    timestamp = details.pop("timestamp")
    return Commit(
        version=details.pop("version"),
        timestamp=_EPOCH + timedelta(milliseconds=timestamp),
        operation=details.pop("operation"),
        rows_written=_rows_written(details.get("operationMetrics", {})),
        metadata=MappingProxyType(_user_metadata(details.pop(_USER_METADATA, None))),
        details=MappingProxyType(details),
    )


def _rows_written(metrics: Mapping[str, Any]) -> int | None:
    for names in _ROWS_WRITTEN:
        if all(name in metrics for name in names):
            return sum(int(metrics[name]) for name in names)
    return None


def _user_metadata(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {_USER_METADATA: text}  # another writer's free text
    return value if isinstance(value, dict) else {_USER_METADATA: text}
