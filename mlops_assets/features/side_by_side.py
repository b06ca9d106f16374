"""A point-in-time join of many views that never carries a wide row through a join.

One statement with sixteen `ASOF JOIN`s moves each row, which grows by a view's columns at every
step, through sixteen sorts. Here each view is joined to its own keys and the prediction time alone,
its columns are kept in the order of the numbered spine, and all of them are laid side by side in
the end. On the flights (327,000 rows, 16 views, 115 features) that takes 0.4 of the CPU time and
0.3 of the memory of the single statement, and gives the same values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from mlops_assets.features.errors import PointInTimeJoinError
from mlops_assets.features.identifiers import quote, relation
from mlops_assets.features.point_in_time import point_in_time_join
from mlops_assets.features.selection import Selection, Spine

ROW = "@row"
"""Number of the spine row in the temporary tables, which are all in its order."""


@dataclass(frozen=True)
class SideBySide:
    """A spine and the features joined to it, in one session's temporary tables.

    Attributes
    ----------
    spine
        Temporary table of the spine in its final order, with `ROW` in front.
    selections
        What was joined.
    tables
        Temporary table of each selection's outputs, row by row to `spine`.
    """

    spine: str
    selections: tuple[Selection, ...]
    tables: tuple[str, ...]

    @property
    def from_sql(self) -> str:
        """The FROM clause in which the spine is `spine` and each output has its own name."""
        views = "".join(f"\nPOSITIONAL JOIN {quote(table)}" for table in self.tables)
        return f"{quote(self.spine)} AS spine{views}"

    def misplaced_rows(self, con: duckdb.DuckDBPyConnection) -> int:
        """Count spine rows beside which the row of some view is another one's; 0 is right."""
        apart = " OR ".join(
            f"{quote(table)}.{quote(ROW)} IS DISTINCT FROM spine.{quote(ROW)}"
            for table in self.tables
        )
        [(rows,)] = con.execute(f"SELECT count(*) FROM {self.from_sql} WHERE {apart}").fetchall()
        return int(rows)


def join_side_by_side(
    con: duckdb.DuckDBPyConnection,
    spine: Spine,
    selections: Sequence[Selection],
    *,
    order_by: Sequence[str],
    name: str,
) -> SideBySide:
    """Join features to a spine, view by view, into temporary tables.

    Parameters
    ----------
    con
        A session in which the spine and every selected view's table exist; see `Lake.connect`.
        Rows must keep the order in which they are inserted, which is DuckDB's default.
    spine, selections
        As for `point_in_time_join`; output columns may not repeat over selections.
    order_by
        Spine columns that put the rows into their final order.
    name
        Begins the names of the temporary tables.

    Raises
    ------
    PointInTimeJoinError
        As for `point_in_time_join`, or when rows did not keep their order.
    """
    if not selections:
        raise PointInTimeJoinError("no feature is selected; give at least one selection")
    numbered = f"{name}_spine"
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {quote(numbered)} AS
        SELECT row_number() OVER () AS {quote(ROW)}, *
        FROM (SELECT * FROM {relation(spine.relation)} ORDER BY {", ".join(map(quote, order_by))})
        """
    )
    tables: list[str] = []
    for number, selection in enumerate(selections):
        keys = tuple(dict.fromkeys(mine for mine, _ in selection.keys))
        narrow = f"{name}_keys_{number}"
        con.execute(
            f"""
            CREATE OR REPLACE TEMP VIEW {quote(narrow)} AS
            SELECT {", ".join(map(quote, (ROW, spine.prediction_time, *keys)))}
            FROM {quote(numbered)}
            """
        )
        joined = point_in_time_join(
            con, Spine(quote(narrow), keys, spine.prediction_time), [selection]
        )
        columns = [ROW, *(output for output, _ in selection.outputs)]
        table = f"{name}_view_{number}"
        con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE {quote(table)} AS
            SELECT {", ".join(map(quote, columns))} FROM ({joined.sql_query()})
            ORDER BY {quote(ROW)}
            """
        )
        con.execute(f"DROP VIEW {quote(narrow)}")
        tables.append(table)
    found = SideBySide(numbered, tuple(selections), tuple(tables))
    if misplaced := found.misplaced_rows(con):
        raise PointInTimeJoinError(
            f"{misplaced} rows of {spine.relation} lost their order on the way; does the session "
            "set preserve_insertion_order = false?"
        )
    return found
