"""The journal: what a promotion or rollback is about to do, written down before it does it.

MLflow's alias and the ledger cannot change in one transaction. So the ledger's line is first put
into a file beside the family's lock; then the alias changes; then the line goes into the ledger and
the file away. An operation that finds the file can tell from the alias whether the switch happened,
and finishes it with the actor and the reason it had.
"""

import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from mlops_assets.registry.errors import RegistryError
from mlops_assets.registry.ledger import Event, LedgerEntry


def intend(folder: Path, entry: LedgerEntry) -> LedgerEntry:
    """Write down what is about to happen; return it with its time and its unique name."""
    dated = replace(entry, at=datetime.now(UTC), entry_id=uuid4().hex)
    path = _path(folder, entry.family)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w", encoding="utf-8") as handle:
        json.dump(asdict(dated), handle, default=str)
        handle.flush()
        os.fsync(handle.fileno())
    unfinished.replace(path)
    return dated


def intended(folder: Path, family: str) -> LedgerEntry | None:
    """Return what an operation meant to do that did not live to say it had; None if all did.

    Raises
    ------
    RegistryError
        When the file was changed by hand.
    """
    path = _path(folder, family)
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return LedgerEntry(
            **{
                **record,
                "event": Event(record["event"]),
                "at": datetime.fromisoformat(record["at"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(
            f"{path} is no journal of this platform ({error}); look at it, then remove it"
        ) from error


def finished(folder: Path, family: str) -> None:
    """Forget what was intended: it has happened and been written down, or it never did."""
    _path(folder, family).unlink(missing_ok=True)


def _path(folder: Path, family: str) -> Path:
    return folder / f"{family}.journal.json"
