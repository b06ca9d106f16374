"""Days of a raw table that arrive broken, in part, or corrected: through the real ingestion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.ingestion import PROVENANCE, ingest
from mlops_assets.ingestion.sources import FileSource
from mlops_assets.lake import Lake, TableName, Window
from mlops_assets.production.replay.errors import ReplayError
from mlops_assets.quality import AuditPolicy, Contract
from mlops_assets.transform.build import build
from mlops_assets.transform.project import DbtProject

if TYPE_CHECKING:
    import pyarrow as pa

Rebuild = Callable[[Lake, date], None]
"""Makes everything anew that follows from a day of the raw table."""


@dataclass(frozen=True)
class RawDays:
    """A raw table by day, and how what follows from it is made.

    Attributes
    ----------
    table, contract, column
        The table, what its rows must look like, and the column that says their day.
    rebuild
        Makes what follows from a day.
    derived
        Columns that are computed while reading.
    policy
        How many refused rows a batch may have.
    """

    table: TableName
    contract: type[Contract]
    column: str
    rebuild: Rebuild
    derived: Mapping[str, str] = field(default_factory=dict)
    policy: AuditPolicy = field(default_factory=AuditPolicy)

    def rows(self, lake: Lake, day: date) -> "pa.Table":
        """Return a day's rows as their file would hold them."""
        left = [*PROVENANCE, *self.derived]
        with lake.connect(tables=[self.table]) as con:
            found = con.sql(
                f"SELECT * FROM {self.table.sql} WHERE {self.column} = $day ORDER BY ALL",
                params={"day": day},
            ).to_arrow_table()
        return found.drop_columns([name for name in left if name in found.column_names])

    def forget(self, lake: Lake, day: date) -> None:
        """Take a day out of the lake, as if it had never come, and make anew what follows."""
        lake.overwrite_window(
            self.table, lake.schema(self.table).empty_table(), Window(self.column, day, _next(day))
        )
        self.rebuild(lake, day)

    def land(self, lake: Lake, day: date, rows: "pa.Table", folder: Path) -> None:
        """Write a day's file, ingest it, and make anew what follows from it.

        Raises
        ------
        mlops_assets.quality.BatchRefused, mlops_assets.ingestion.SourceRefusedError
            When the contract refuses it; the lake is as it was.
        """
        from pyarrow import csv

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.table.name}-{day}.csv"
        csv.write_csv(rows, path)
        ingest(
            lake,
            FileSource(path=str(path)),
            self.contract,
            self.table,
            mode=Window(self.column, day, _next(day)),
            root=folder,
            policy=self.policy,
            derived=dict(self.derived),
        )
        self.rebuild(lake, day)


def _next(day: date) -> date:
    return day + timedelta(days=1)


def rebuild_with_dbt(project: DbtProject, table: TableName) -> Rebuild:
    """Return what makes the dbt models anew that follow from a raw table.

    Parameters
    ----------
    project
        The dbt project.
    table
        The raw table. A day of it concerns that day, and as many later ones as models look back.
    """
    reach = _reach(project, table)
    names = [model.name for model in project.models.values() if model.table in reach]

    def rebuild(lake: Lake, day: date) -> None:
        window = (day, day + timedelta(days=max(reach.values()) + 1))
        made = build(lake, project, names, window=window)
        if not made.ok:
            raise ReplayError(
                f"what follows from {table} of {day} cannot be made:\n{made.failure_report()}"
            )

    return rebuild


def _reach(project: DbtProject, table: TableName) -> dict[TableName, int]:
    """Return the models that follow from a table, and for how many days its days concern them."""
    models = {model.table: model for model in project.models.values()}
    found: dict[TableName, int | None] = {table: 0}

    def reach(name: TableName) -> int | None:
        if name not in found:
            model = models.get(name)
            parents = () if model is None else map(reach, model.upstream)
            known = [days for days in parents if days is not None]
            looks_back = 0 if model is None else int(model.meta.get("lookback_days", 0))
            found[name] = max(known) + looks_back if known else None
        return found[name]

    return {name: days for name in models if (days := reach(name)) is not None}
