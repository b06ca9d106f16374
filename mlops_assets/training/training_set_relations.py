"""What building and auditing a training set share: the relations it passes through, and its error.

A training set is built in one DuckDB session, from relation to relation: the rows that are scored
with their label, those of them in a part of the split, these with their features. The names are
here and nowhere else; who makes each is `mlops_assets.training.training_set`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

SCORED = "_training_scored"
"""Every row of the spine with its label, its split day and hour."""

SPLIT = "_training_split"
"""The labelled rows inside the split's days, with their part, purged ones included."""

DATED = "_training_dated"
"""The training set, and beside it when its latest feature value became known."""

KNOWN_AT = '"@known_at"'
"""The column of `DATED` that says so, quoted."""

JOINED = "_training_set"
"""The training set as it is published."""


class TrainingSetError(ValueError):
    """A training set cannot be built or used; the message lists every reason and what to do."""


def count(con: "duckdb.DuckDBPyConnection", query: str) -> int:
    """Return the one number that a query gives; 0 when it gives no row."""
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0
