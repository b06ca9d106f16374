"""Records: what the payload of a frame says, as msgpack; made by workers, read when shipping.

A record is a msgpack array that begins with the number of its kind. A segment is complete in
itself: it begins with a `Start`, and a model is described by a `Declaration` before its first
`Prediction`.
"""

from typing import Any

import msgspec

from mlops_assets.serving.inference_log.answered import Answered, LoggedModel
from mlops_assets.serving.inference_log.errors import NotDeclaredError
from mlops_assets.serving.inference_log.events import Event

FORMAT = 1
"""Number of this way to write records; one that reads another must say so."""


class Start(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """The first record of a segment: who wrote it, and how.

    Attributes
    ----------
    format
        `FORMAT` of its writer.
    stream, sequence
        The writer, and which of its segments this is, from 0.
    started_at
        Microseconds since 1970 in UTC.
    """

    format: int
    stream: str
    sequence: int
    started_at: int


class Declaration(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A `LoggedModel`.

    Attributes
    ----------
    family, version
        The model.
    names, categorical, outputs
        As the model has them.
    entity
        An Arrow schema in its IPC form.
    """

    family: str
    version: int
    names: list[str]
    categorical: list[str]
    outputs: list[str]
    entity: bytes


class Prediction(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """An `Answered`: ``numbers`` and ``answers`` are little-endian matrices, row after row."""

    family: str
    version: int
    role: str
    request_id: str
    answered_at: int
    caller: str
    source: str
    seconds: float
    as_of: list[int] | None
    entity: dict[str, list[Any]]
    rows: int
    numbers: bytes
    categories: list[list[str | None]]
    answers: bytes
    feature_versions: dict[str, int]
    warnings: list[str]


class Happened(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """An `Event` with the unique name it has in the table."""

    event_id: str
    at: int
    kind: str
    message: str
    family: str | None
    version: int | None
    since: int | None
    rows: int | None


Record = Start | Declaration | Prediction | Happened


def _plain(value: Any) -> Any:
    """Return what msgpack can hold for a value that it cannot: NumPy's numbers and arrays."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise NotDeclaredError(
        f"{value!r} of type {type(value).__name__} cannot be logged; an entity's value is a "
        "number, a text, a boolean, a date, a time, or null"
    )


encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
decode = msgspec.msgpack.Decoder(Record).decode


def declaration(family: str, version: int, model: LoggedModel) -> Declaration:
    """Return the record of a model."""
    return Declaration(
        family,
        version,
        list(model.schema.names),
        list(model.schema.categorical),
        list(model.outputs),
        model.entity.serialize().to_pybytes(),
    )


def prediction(answered: Answered) -> Prediction:
    """Return the record of an answer. Its arrays must have been checked."""
    return Prediction(
        answered.family,
        answered.version,
        answered.role,
        answered.request_id,
        answered.answered_at,
        answered.caller,
        answered.source,
        answered.seconds,
        answered.as_of,  # type: ignore[arg-type]  # any sequence is written as a list is
        answered.entity,  # type: ignore[arg-type]  # so is any mapping
        len(answered.answers),
        answered.numbers.tobytes(),
        answered.categories,  # type: ignore[arg-type]  # as above
        answered.answers.tobytes(),
        answered.feature_versions,  # type: ignore[arg-type]  # as above
        answered.warnings,  # type: ignore[arg-type]  # as above
    )


def happened(event: Event, event_id: str, now: int) -> Happened:
    """Return the record of an event; ``now`` counts where it does not say when."""
    return Happened(
        event_id=event_id,
        at=now if event.at is None else event.at,
        kind=str(event.kind),
        message=event.message,
        family=event.family,
        version=event.version,
        since=event.since,
        rows=event.rows,
    )
