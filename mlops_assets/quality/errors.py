"""What can go wrong with a contract, an audit or a publication.

A batch that breaks its contract is `BatchRefused`; a contract that is itself wrong, or a check that
crashes, is `ContractError`. The two never stand for each other: a bug in a check is not bad data.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_assets.quality.report import AuditReport


class QualityError(Exception):
    """Base of every error of this package."""


class ContractError(QualityError):
    """A contract is declared wrongly, or one of its checks crashed."""


class BatchRefused(QualityError):  # noqa: N818 - the outcome of an audit, named as people say it
    """A whole batch was refused; the table kept its last good version.

    Attributes
    ----------
    report
        What the audit found.
    quarantine
        The quarantine table that now holds every row of the batch.
    batch_id
        The batch, as the quarantine table names it.
    """

    def __init__(self, message: str, report: "AuditReport", quarantine: str, batch_id: str) -> None:
        super().__init__(message)
        self.report = report
        self.quarantine = quarantine
        self.batch_id = batch_id
