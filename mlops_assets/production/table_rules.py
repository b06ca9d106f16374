"""The rules that a published table keeps, judged at any of its versions.

A batch is judged before it is published; here are tables judged afterwards, as they are or as they
once were: by the contract of a raw table, or by the tests of a dbt model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mlops_assets.lake import Lake, TableName

if TYPE_CHECKING:
    from mlops_assets.quality import Contract
    from mlops_assets.transform.project import DbtProject


class TableRules(Protocol):
    """What must hold of a table."""

    @property
    def reads(self) -> tuple[TableName, ...]:
        """Other tables that are needed to judge."""

    def broken(self, lake: Lake, table: TableName, version: int) -> tuple[str, ...]:
        """Say which rules a version of a table breaks, each in a line; nothing where it keeps all.

        Raises
        ------
        mlops_assets.lake.LakeError
            When the version cannot be read.
        """


@dataclass(frozen=True)
class ContractRules:
    """The rules of a contract."""

    contract: "type[Contract]"

    @property
    def reads(self) -> tuple[TableName, ...]:
        """None: a contract speaks of one table."""
        return ()

    def broken(self, lake: Lake, table: TableName, version: int) -> tuple[str, ...]:
        """Audit the version."""
        from mlops_assets.quality import audit

        with lake.connect(versions={table: version}, tables=[table]) as con:
            report = audit(con, table.sql, self.contract, samples=1)
        return tuple(check.told for check in report.broken)


@dataclass(frozen=True)
class DbtRules:
    """The tests of one dbt model; those of severity ``warn`` are left out."""

    project: "DbtProject"
    model: str

    @property
    def reads(self) -> tuple[TableName, ...]:
        """The tables that its tests read."""
        [model] = [each for each in self.project.models.values() if each.name == self.model]
        tables = [table for test in self.project.tests_of([model]) for table in test.reads]
        return tuple(dict.fromkeys(table for table in tables if table != model.table))

    def broken(self, lake: Lake, table: TableName, version: int) -> tuple[str, ...]:
        """Run the tests over the version."""
        from mlops_assets.transform.build import run_tests

        outcomes = run_tests(lake, self.project, [self.model], versions={table: version})
        return tuple(
            f"{test.name}: {test.message or 'failed'}"
            for test in outcomes
            if not test.passed and not (test.is_warning and test.failures is not None)
        )


_MAINTENANCE = frozenset(
    {"OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "CREATE TABLE", "FSCK"}
)
"""Operations that leave the rows as they are."""

_AUDITED = ("batch_id", "dbt_model")
"""Notes of commits whose rows were judged before: of `quality.publish`, and of a dbt build."""


def unaudited_version(lake: Lake, table: TableName) -> int | None:
    """Return the newest version whose rows nobody judged before they were published.

    Parameters
    ----------
    lake, table
        Where and which.

    Returns
    -------
    int or None
        None where the rows are those of an audited commit, be it that they were brought back.
    """
    visible_to: int | None = None
    for commit in lake.history(table):
        if (visible_to is not None and commit.version > visible_to) or (
            commit.operation in _MAINTENANCE
        ):
            continue
        if commit.operation == "RESTORE":
            visible_to = int(commit.details["operationParameters"]["version"])
            continue
        return None if any(note in commit.metadata for note in _AUDITED) else commit.version
    return None
