"""Which columns of its parents a dbt model's column is made from.

Read from the compiled SQL by sqlglot, with the columns that the project declares for each parent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_assets.lake import TableName
from mlops_assets.transform.project import DbtProject

_DIALECT = "duckdb"


@dataclass(frozen=True, order=True)
class ColumnOrigin:
    """A column that another column is computed from."""

    table: TableName
    column: str


def column_lineage(
    project: DbtProject, unique_id: str, compiled_sql: str
) -> Mapping[str, tuple[ColumnOrigin, ...]]:
    """Trace every declared column of a model to columns of the tables it reads.

    Parameters
    ----------
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
        If the SQL cannot be resolved against the declared columns of its parents.
    """
    from sqlglot import MappingSchema, exp, parse_one
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    node = project.manifest["nodes"][unique_id]
    parents = {_relation(parent): parent for parent in _parents(project, node)}
    schema = MappingSchema(dialect=_DIALECT)
    for parent in parents.values():
        schema.add_table(
            parent["relation_name"],
            {name: column["data_type"] for name, column in parent["columns"].items()},
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
    for column in node["columns"]:
        origins: set[ColumnOrigin] = set()
        root = lineage(column, query, schema=schema, dialect=_DIALECT, scope=scope, copy=False)
        for leaf in root.walk():
            table = leaf.expression.find(exp.Table)
            if leaf.downstream or table is None:
                continue
            if parent := parents.get((table.db, table.name)):
                name = exp.to_column(leaf.name).name
                if name in parent["columns"]:
                    origins.add(ColumnOrigin(TableName(parent["schema"], parent["name"]), name))
        result[column] = tuple(sorted(origins, key=lambda origin: (str(origin.table), origin.column)))
    return result


def _parents(project: DbtProject, node: Mapping[str, Any]) -> list[dict[str, Any]]:
    manifest = project.manifest
    return [
        manifest["sources" if unique_id.startswith("source.") else "nodes"][unique_id]
        for unique_id in node["depends_on"]["nodes"]
    ]


def _relation(node: Mapping[str, Any]) -> tuple[str, str]:
    return node["schema"], node["identifier"] if "identifier" in node else node["alias"]
