"""Keeping tables healthy: restore, compact, vacuum, and what vacuum must never take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from deltalake import DeltaTable

from mlops_assets.lake.commits import Commit, properties
from mlops_assets.lake.errors import RetentionError
from mlops_assets.lake.names import TableName
from mlops_assets.lake.pins import Pin
from mlops_assets.lake.writes import HOOKS, PROPERTIES, Write

_ORPHANS_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class VacuumReport:
    """What a vacuum removed, or would remove.

    Attributes
    ----------
    table
        Which table.
    files
        Paths of the files, relative to the table.
    pinned_versions
        Versions that were kept because something pins them.
    dry_run
        Whether nothing was removed.
    """

    table: TableName
    files: tuple[str, ...]
    pinned_versions: tuple[int, ...]
    dry_run: bool


def restore(write: Write, version: int) -> Commit:
    """Make ``version`` current again."""

    def action(table: DeltaTable) -> None:
        table.restore(
            version,
            protocol_downgrade_allowed=True,
            commit_properties=properties(write.metadata, exclusive=True),
            post_commithook_properties=HOOKS,
        )

    commit = write.change("restore", action)
    assert commit is not None  # noqa: S101 - a restore always commits
    return commit


def compact(write: Write, target_bytes: int) -> Commit | None:
    """Rewrite small files as large ones; None where there was nothing to do."""

    def action(table: DeltaTable) -> None:
        table.optimize.compact(
            target_size=target_bytes,
            commit_properties=properties(write.metadata),
            post_commithook_properties=HOOKS,
        )

    return write.change("compact", action)


def keep_log(write: Write) -> None:
    """Have every writer keep the whole log, as tables of this lake do from their creation on."""

    def action(table: DeltaTable) -> None:
        if PROPERTIES.items() - table.metadata().configuration.items():
            table.alter.set_table_properties(PROPERTIES, post_commithook_properties=HOOKS)

    write.change("keep the log of", action)


def vacuum(
    write: Write, retention: timedelta, pins: Sequence[Pin], *, dry_run: bool
) -> VacuumReport:
    """Remove files that no kept version uses."""
    if retention < timedelta(0):
        raise RetentionError(f"{write.name}: a retention of {retention} is negative.")
    pinned = sorted({pin.version for pin in pins})
    removed: list[str] = []

    def action(table: DeltaTable) -> None:
        removed[:] = table.vacuum(
            retention_hours=math.ceil(retention / timedelta(hours=1)),
            dry_run=dry_run,
            enforce_retention_duration=False,
            full=retention >= _ORPHANS_AFTER,
            keep_versions=pinned,
            commit_properties=properties(write.metadata),
            post_commithook_properties=HOOKS,
        )

    write.change("vacuum", action)
    return VacuumReport(write.name, tuple(sorted(removed)), tuple(pinned), dry_run)
