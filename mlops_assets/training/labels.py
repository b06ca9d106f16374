"""What the labels of a training set are, per part of the split, counted in SQL.

Whether a task can learn from them is for the task to say (`mlops_assets.training.tasks`).
"""

from typing import TYPE_CHECKING, Any

from mlops_assets.training.tasks import MOST_CLASSES, LabelFacts, Task

if TYPE_CHECKING:
    import duckdb

_NUMBERS = ("mean", "std", "min", "median", "max")


def label_facts(
    con: "duckdb.DuckDBPyConnection", relation: str, task: Task
) -> dict[str, LabelFacts]:
    """Describe the labels of each part.

    Parameters
    ----------
    con
        DuckDB session that knows the relation.
    relation
        Has the columns `split` and `label`, the label as the task's `label_sql` makes it.
    task
        Says whether labels are numbers.

    Returns
    -------
    dict
        By part, purged rows among them where there are any.
    """
    numeric = task.label_type == "DOUBLE"
    finite = "label" if numeric else "NULL::DOUBLE"
    known = f"FILTER (isfinite({finite}))"
    rows = con.execute(
        f"""
        SELECT split, count(*), count(DISTINCT label), count_if(NOT isfinite({finite})),
               avg({finite}) {known}, stddev_pop({finite}) {known}, min({finite}) {known},
               median({finite}) {known}, max({finite}) {known}
        FROM {relation} GROUP BY split
        """
    ).fetchall()
    counts: dict[str, dict[Any, int]] = {}
    for part, label, count in con.execute(
        f"""
        SELECT split, label, count(*) AS rows FROM {relation} GROUP BY split, label
        QUALIFY row_number() OVER (PARTITION BY split ORDER BY rows DESC, label) <= $most
        ORDER BY split, rows DESC, label
        """,
        {"most": MOST_CLASSES + 1},
    ).fetchall():
        counts.setdefault(part, {})[label] = count
    return {
        part: LabelFacts(
            rows=total,
            distinct=distinct,
            not_finite=not_finite,
            counts=counts[part],
            numbers=dict(zip(_NUMBERS, numbers, strict=True)) if numeric else {},
        )
        for part, total, distinct, not_finite, *numbers in rows
    }
