"""The reading side of write-audit-publish: from a declared source to a published table.

A source (`FileSource`, `SqlSource`, `CallableSource`) is declared in YAML. `stage` reads it into a
typed relation in DuckDB, where every row knows its source and what was wrong with it; `ingest`
also audits and publishes. Judging rows by a contract is ``quality``; writing tables is ``lake``.

The names are imported when they are first used: a code location needs only the declarations.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_assets.ingestion.attempts import ATTEMPTS, Attempt, Outcome, failure_reason
    from mlops_assets.ingestion.changes import (
        SETTLED_AFTER,
        DayChange,
        SourceChanges,
        find_changes,
    )
    from mlops_assets.ingestion.errors import (
        DeclarationError,
        FileRefusal,
        IngestionError,
        ScratchError,
        SourceChangedError,
        SourceNotFoundError,
        SourceRefusedError,
        SourceUnavailableError,
    )
    from mlops_assets.ingestion.ingesting import Ingestion, ingest
    from mlops_assets.ingestion.loads import OPEN_QUARANTINE, Loads, Shortfall, table_loads
    from mlops_assets.ingestion.sources import (
        SOURCES,
        CallableSource,
        FileSource,
        Source,
        SqlSource,
    )
    from mlops_assets.ingestion.staging import PROVENANCE, SourceFile, Staged, stage

_MODULES = {
    "attempts": ("ATTEMPTS", "Attempt", "Outcome", "failure_reason"),
    "changes": ("SETTLED_AFTER", "DayChange", "SourceChanges", "find_changes"),
    "errors": (
        "DeclarationError",
        "FileRefusal",
        "IngestionError",
        "ScratchError",
        "SourceChangedError",
        "SourceNotFoundError",
        "SourceRefusedError",
        "SourceUnavailableError",
    ),
    "ingesting": ("Ingestion", "ingest"),
    "loads": ("OPEN_QUARANTINE", "Loads", "Shortfall", "table_loads"),
    "sources": ("SOURCES", "CallableSource", "FileSource", "Source", "SqlSource"),
    "staging": ("PROVENANCE", "SourceFile", "Staged", "stage"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ATTEMPTS",
    "OPEN_QUARANTINE",
    "PROVENANCE",
    "SETTLED_AFTER",
    "SOURCES",
    "Attempt",
    "CallableSource",
    "DayChange",
    "DeclarationError",
    "FileRefusal",
    "FileSource",
    "Ingestion",
    "IngestionError",
    "Loads",
    "Outcome",
    "ScratchError",
    "Shortfall",
    "Source",
    "SourceChangedError",
    "SourceChanges",
    "SourceFile",
    "SourceNotFoundError",
    "SourceRefusedError",
    "SourceUnavailableError",
    "SqlSource",
    "Staged",
    "failure_reason",
    "find_changes",
    "ingest",
    "stage",
    "table_loads",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
