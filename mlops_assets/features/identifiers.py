"""Names and values as DuckDB reads them: quoted, so that none can end a statement."""

import re

from mlops_assets.features.errors import PointInTimeJoinError

_PART = re.compile(r'"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^".]+)')


def quote(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return text as a quoted SQL string."""
    return "'" + text.replace("'", "''") + "'"


def relation(text: str) -> str:
    """Return ``name``, ``schema.name`` or ``catalog.schema.name`` with each part quoted.

    Raises
    ------
    PointInTimeJoinError
        If it is not such a name.
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append(match["plain"] or match["quoted"].replace('""', '"'))
        position = match.end()
        if position == len(text):
            break
        if text[position] != ".":
            break
        position += 1
    if position != len(text) or not 1 <= len(parts) <= 3 or text.endswith("."):
        raise PointInTimeJoinError(
            f"spine relation {text!r} is not the name of a table or view. Write name, schema.name "
            'or catalog.schema.name; put a part that holds a dot in double quotes, as in "a.b"'
        )
    return ".".join(quote(part) for part in parts)
