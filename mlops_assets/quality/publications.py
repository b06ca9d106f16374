"""What a table's own commits say about the batches it holds.

What belongs here: writing a batch's window into its commit, and reading the batches back. A commit
and what it says of itself are one, so this is the truth about what is published, also after a kill
and after a restore.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from mlops_assets.lake import Lake, TableName, Window

WINDOW = "window"
_DATE_LENGTH = len("2013-01-01")


@dataclass(frozen=True)
class PublishedBatch:
    """One batch that a table holds, or held until a later batch replaced its rows.

    Attributes
    ----------
    version
        The table's version that published it.
    batch_id
        The batch.
    window
        The window it replaced; None for a snapshot or an append.
    at
        When it was committed, in UTC.
    """

    version: int
    batch_id: str
    window: Window | None
    at: datetime


def window_metadata(window: Window) -> dict[str, str]:
    """Return a window as it is written into a commit."""
    return {
        "column": window.column,
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
    }


def published_batches(lake: Lake, table: TableName) -> tuple[PublishedBatch, ...]:
    """Return the batches of a table, oldest first, without those that a restore has undone.

    Commits of other writers, which name no batch, are left out; a table that is not there has none.
    """
    if not lake.exists(table):
        return ()
    found: list[PublishedBatch] = []
    visible_to: int | None = None
    for commit in lake.history(table):
        if visible_to is not None and commit.version > visible_to:
            continue
        if commit.operation == "RESTORE":
            restored = commit.details.get("operationParameters", {}).get("version")
            visible_to = None if restored is None else int(restored)
        elif batch_id := commit.metadata.get("batch_id"):
            window = _window(commit.metadata.get(WINDOW))
            found.append(PublishedBatch(commit.version, batch_id, window, commit.timestamp))
    return tuple(reversed(found))


def _window(recorded: Mapping[str, Any] | None) -> Window | None:
    if recorded is None:
        return None
    return Window(recorded["column"], _bound(recorded["start"]), _bound(recorded["end"]))


def _bound(text: str) -> date | datetime:
    return date.fromisoformat(text) if len(text) == _DATE_LENGTH else datetime.fromisoformat(text)
