"""What a text must be in several places of a family's declaration: a name, a sentence, a table."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from mlops_assets.lake import TableName

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Name of a column, a feature or a candidate."""

Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""What people read; not blank."""


def _table(value: str) -> str:
    return str(TableName.parse(value))


LakeTable = Annotated[str, AfterValidator(_table)]
"""Name of a lake table, `schema/name`."""
