"""Which columns of its parents a dbt model's column is made from.

Read from the compiled SQL by sqlglot, with the columns that each parent has in the lake.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlops_assets.lake import Lake, TableName
from mlops_assets.transform.project import DbtProject

_DIALECT = "duckdb"
_CATALOG = "memory"  # of every relation in the compiled SQL; see `build`


@dataclass(frozen=True)
class ColumnOrigin:
    """A column that another column is computed from."""

    table: TableName
    column: str


def column_lineage(
    lake: Lake, project: DbtProject, unique_id: str, compiled_sql: str
) -> Mapping[str, tuple[ColumnOrigin, ...]]:
    """Trace every declared column of a model to columns of the tables it reads.

    Parameters
    ----------
    lake
        Holds the tables that the model reads.
    unique_id
        The model, as the manifest names it.
    compiled_sql
        Its SQL after Jinja.

    Returns
    -------
    Mapping
        Column name to its origins, sorted; empty for a constant or a generated column.

    Raises
    ------
    sqlglot.errors.SqlglotError
        If the SQL cannot be resolved against the columns of its parents.
    """
    from sqlglot import MappingSchema, exp, parse_one
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    model = project.models[unique_id]
    columns = {table: lake.schema(table).names for table in model.upstream}
    schema = MappingSchema(dialect=_DIALECT)
    for upstream, names in columns.items():
        # The type is of no interest to lineage, but sqlglot wants one.
        schema.add_table(
            exp.table_(upstream.name, db=upstream.schema, catalog=_CATALOG),
            dict.fromkeys(names, "varchar"),
            dialect=_DIALECT,
        )
    query = qualify(
        parse_one(compiled_sql, dialect=_DIALECT),
        schema=schema,
        dialect=_DIALECT,
        quote_identifiers=False,
    )
    # One resolved scope serves every column; sqlglot would otherwise resolve the query once each.
    scope = build_scope(query)
    result: dict[str, tuple[ColumnOrigin, ...]] = {}
    for column in model.columns:
        origins: set[ColumnOrigin] = set()
        root = lineage(column, query, schema=schema, dialect=_DIALECT, scope=scope, copy=False)
        for leaf in root.walk():
            table = leaf.expression.find(exp.Table)
            if leaf.downstream or table is None:
                continue
            origin = ColumnOrigin(TableName(table.db, table.name), exp.to_column(leaf.name).name)
            if origin.column in columns.get(origin.table, ()):
                origins.add(origin)
        result[column] = tuple(sorted(origins, key=str))
    return result
