"""Folding a Pandera check's result into one expression on the audited relation.

Pandera gives each check a query of its own: a chain of projections over the relation, joined back
to it by position. Such a chain keeps every row in its place, so its boolean column can be written
as one expression on the relation's own columns. Then all checks fit into one scan, and what each
means is still what Pandera's own functions built, null handling included.
"""

from typing import Any

import ibis.expr.operations as ops
import ibis.expr.types as ir
from ibis.common.graph import Node


class NotFoldable(Exception):  # noqa: N818 - a question answered "no", not a fault
    """The expression filters, groups or joins, so it is not a function of one row."""


def fold(expression: ir.Value, source: ir.Table, onto: ir.Table) -> ir.Value:
    """Write ``expression``, built on ``source``, as an expression on ``onto``.

    Parameters
    ----------
    expression
        A column or scalar made from ``source`` through projections and positional joins.
    source
        The relation the expression goes back to.
    onto
        The relation to read instead; it has every column of ``source``, row for row.

    Raises
    ------
    NotFoldable
        When something on the way does not keep the rows in place.
    """
    return _Fold(source.op(), onto.op()).node(expression.op()).to_expr()


class _Fold:
    def __init__(self, source: ops.Relation, onto: ops.Relation) -> None:
        self._source = source
        self._onto = onto
        self._done: dict[Node, Node] = {}

    def node(self, node: Node) -> Node:
        if node not in self._done:
            self._done[node] = self._folded(node)
        return self._done[node]

    def _folded(self, node: Node) -> Node:
        if isinstance(node, ops.Field):
            return self._field(node)
        if isinstance(node, ops.Relation):
            return self._relation(node)
        if isinstance(node, ops.Subquery):
            raise NotFoldable(type(node).__name__)
        changed = {name: self._argument(value) for name, value in self._arguments(node).items()}
        return node.copy(**changed)

    @staticmethod
    def _arguments(node: Node) -> dict[str, Any]:
        return dict(zip(node.__argnames__, node.__args__, strict=True))

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Node):
            return self.node(value)
        if isinstance(value, tuple):
            return tuple(self._argument(item) for item in value)
        return value

    def _field(self, field: ops.Field) -> Node:
        relation = field.rel
        if relation == self._source:
            return ops.Field(self._onto, field.name)
        if isinstance(relation, ops.Project) or _is_positional(relation):
            return self.node(relation.values[field.name])
        if isinstance(relation, ops.JoinReference):
            return self._field(ops.Field(relation.parent, field.name))
        raise NotFoldable(type(relation).__name__)

    def _relation(self, relation: ops.Relation) -> Node:
        """Fold a relation that stands as an argument, as in a row count."""
        if relation == self._source:
            return self._onto
        if isinstance(relation, ops.Project):
            return self._relation(relation.parent)
        raise NotFoldable(type(relation).__name__)


def _is_positional(relation: ops.Relation) -> bool:
    return isinstance(relation, ops.JoinChain) and all(
        link.how == "positional" for link in relation.rest
    )
