"""What is logged of an answer, and what must be known of a model to give its columns their names.

Plain values without heavy imports: a worker makes one `Answered` per answer it gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_assets.training.dataset import FeatureSchema


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that a model answered: one row or several.

    Attributes
    ----------
    family, version
        The model.
    role
        ``champion``, ``canary`` or ``shadow``.
    request_id
        Unique. The prediction id of row ``i`` is ``{request_id}-{i}``.
    answered_at
        Microseconds since 1970 in UTC.
    caller
        Name of the token, or ``anonymous``.
    source
        Where the features came from: ``request``, ``online`` or ``offline``.
    seconds
        Time in the server until now.
    as_of
        Per row, the prediction time its features are for, in microseconds since 1970 in UTC; None
        where there is none.
    entity
        Spine columns that were given or looked up, by name, one value a row; may be empty.
    numbers
        What the model saw of its numeric features, in the schema's order: float32, NaN for null,
        shape (rows, numeric features).
    categories
        For each categorical feature, in the schema's order, one value a row.
    answers
        float64, shape (rows,) or (rows, outputs).
    feature_versions
        Feature view to the version of its table that values came from; may be empty.
    warnings
        What the caller was warned of.
    """

    family: str
    version: int
    role: str
    request_id: str
    answered_at: int
    caller: str
    source: str
    seconds: float
    as_of: Sequence[int] | None
    entity: Mapping[str, Sequence[Any]]
    numbers: "NDArray[np.float32]"
    categories: Sequence[Sequence[str | None]]
    answers: "NDArray[np.float64]"
    feature_versions: Mapping[str, int]
    warnings: Sequence[str]


@dataclass(frozen=True)
class LoggedModel:
    """What a segment must say of a model, so that its predictions can become rows.

    Attributes
    ----------
    schema
        Features in the order the model takes them.
    outputs
        Names of the columns of an answer, as the task has them.
    entity
        Spine columns that predictions may come with, with their Arrow types.
    """

    schema: "FeatureSchema"
    outputs: tuple[str, ...]
    entity: "pa.Schema"
