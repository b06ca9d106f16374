"""Contracts, audits, quarantine and publishing (write-audit-publish), inside DuckDB.

A `Contract` says what a table must look like. `audit` judges a relation against it in one scan;
`publish` commits the rows that passed and puts the others in quarantine, each with its reasons.

The names are imported when they are first used, because Pandera and Ibis take half a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_assets.quality.auditing import audit
    from mlops_assets.quality.contract import (
        Contract,
        ContractColumn,
        TimestampLocal,
        TimestampUTC,
        arrow_schema,
        check_contract,
        columns,
        contract_hash,
        keys,
    )
    from mlops_assets.quality.contract_rules import Kind, Rule, rules
    from mlops_assets.quality.errors import BatchRefused, ContractError, QualityError
    from mlops_assets.quality.policy import AuditPolicy, Mode
    from mlops_assets.quality.publications import PublishedBatch, published_batches
    from mlops_assets.quality.publishing import Publication, publish
    from mlops_assets.quality.quarantine import (
        QUARANTINE_SCHEMA,
        QuarantineCount,
        Reason,
        quarantine_batch,
        quarantine_counts,
        quarantine_name,
        read_quarantine,
    )
    from mlops_assets.quality.report import AuditReport, CheckResult, Failure

_MODULES = {
    "auditing": ("audit",),
    "contract": (
        "Contract",
        "ContractColumn",
        "TimestampLocal",
        "TimestampUTC",
        "arrow_schema",
        "check_contract",
        "columns",
        "contract_hash",
        "keys",
    ),
    "errors": ("BatchRefused", "ContractError", "QualityError"),
    "policy": ("AuditPolicy", "Mode"),
    "publications": ("PublishedBatch", "published_batches"),
    "publishing": ("Publication", "publish"),
    "quarantine": (
        "QUARANTINE_SCHEMA",
        "QuarantineCount",
        "Reason",
        "quarantine_batch",
        "quarantine_counts",
        "quarantine_name",
        "read_quarantine",
    ),
    "report": ("AuditReport", "CheckResult", "Failure"),
    "contract_rules": ("Kind", "Rule", "rules"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "QUARANTINE_SCHEMA",
    "AuditPolicy",
    "AuditReport",
    "BatchRefused",
    "CheckResult",
    "Contract",
    "ContractColumn",
    "ContractError",
    "Failure",
    "Kind",
    "Mode",
    "Publication",
    "PublishedBatch",
    "QualityError",
    "QuarantineCount",
    "Reason",
    "Rule",
    "TimestampLocal",
    "TimestampUTC",
    "arrow_schema",
    "audit",
    "check_contract",
    "columns",
    "contract_hash",
    "keys",
    "publish",
    "published_batches",
    "quarantine_batch",
    "quarantine_counts",
    "quarantine_name",
    "read_quarantine",
    "rules",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
