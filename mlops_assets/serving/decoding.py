"""From the bytes of a request to a model's inputs: JSON by rows or by columns, and Arrow.

msgspec decodes JSON straight into the types of the model's contract, so that validating costs
nothing beside parsing. Only a request that is refused is looked at a second time, value by value,
to say everything that is wrong with it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from operator import attrgetter
from struct import Struct
from struct import error as StructError  # noqa: N812 - an exception, and named so everywhere else
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlops_assets.serving.inputs import MOST_ERRORS, Inputs, invalid
from mlops_assets.serving.security.problems import (
    FieldProblem,
    InvalidRequestError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from mlops_assets.training.dataset import FeatureSchema
from mlops_assets.training.input_contract import InputContract, InputField, Kind

if TYPE_CHECKING:
    import pyarrow as pa

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"

LARGEST = float(np.finfo(np.float32).max)
"""Models compute in single precision; a number beyond this has no value there."""

_LONGEST_TEXT = 1000

_Number = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
_Text = Annotated[str, msgspec.Meta(max_length=_LONGEST_TEXT)]
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Plain = _Text | _Integer | _Number | bool | None
"""What identifies an entity; which of these a column holds, the lookup knows."""

_PLAIN = f"text of at most {_LONGEST_TEXT} characters, a number, true, false or null"
_MOMENT = "a time with its zone, such as 2013-07-01T12:00:00Z"
_FORMS = ("rows", "columns", "entities")


@dataclass(frozen=True)
class Entities:
    """A request by key: whose features are to be looked up.

    Attributes
    ----------
    keys
        Spine columns of each entity.
    as_of
        The moment the features are for; None for the spine's own, or now.
    """

    keys: Sequence[dict[str, Any]]
    as_of: datetime | None = None


@dataclass(frozen=True)
class Asked:
    """A decoded request.

    Attributes
    ----------
    what
        The features themselves, or whose they are.
    form
        How they came, which is how the answer goes: `rows`, `columns`, `entities` or `arrow`.
    """

    what: Inputs | Entities
    form: str

    def __len__(self) -> int:
        return len(self.what) if isinstance(self.what, Inputs) else len(self.what.keys)


@dataclass(frozen=True)
class InputDecoder:
    """Reads requests for one model.

    Attributes
    ----------
    contract
        The features a caller gives.
    schema
        The same as the model has them.
    """

    contract: InputContract
    schema: FeatureSchema

    @cached_property
    def _types(self) -> dict[str, Any]:
        return {field.name: _type(field) for field in self.contract.fields}

    @cached_property
    def _fields(self) -> dict[str, InputField]:
        return {field.name: field for field in self.contract.fields}

    @cached_property
    def _request(self) -> msgspec.json.Decoder[Any]:
        row = msgspec.defstruct(
            "Row", list(self._types.items()), forbid_unknown_fields=True, gc=False
        )
        columns = msgspec.defstruct(
            "Columns",
            [(name, list[kind]) for name, kind in self._types.items()],  # type: ignore[valid-type] # made at run time
            forbid_unknown_fields=True,
        )
        unset = msgspec.UnsetType
        request = msgspec.defstruct(
            "Request",
            [
                ("rows", list[row] | unset, msgspec.UNSET),  # type: ignore[valid-type] # made at run time
                ("columns", columns | unset, msgspec.UNSET),
                ("entities", list[dict[_Text, _Plain]] | unset, msgspec.UNSET),
                ("as_of", datetime | unset, msgspec.UNSET),
            ],
            forbid_unknown_fields=True,
        )
        return msgspec.json.Decoder(request)

    @cached_property
    def _numbers_of(self) -> Any:
        return _getter(self.schema.numeric)

    @cached_property
    def _categories_of(self) -> tuple[Any, ...]:
        return tuple(map(attrgetter, self.schema.categorical))

    def decode(self, content_type: str, body: bytes, most_rows: int) -> Asked:
        """Read a request.

        Parameters
        ----------
        content_type
            As the request says it.
        body
            All of it.
        most_rows
            More are refused.

        Raises
        ------
        UnsupportedMediaTypeError
            For a format that is not read.
        TooLargeError
            For more rows.
        InvalidRequestError
            Naming each wrong field.
        """
        kind = content_type.partition(";")[0].strip().lower()
        if kind == ARROW:
            return Asked(self._from_arrow(body, most_rows), "arrow")
        if kind != JSON:
            raise UnsupportedMediaTypeError(f"send {JSON} or {ARROW}")
        try:
            request = self._request.decode(body)
        except msgspec.ValidationError as error:
            raise self._explained(body, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise invalid(f"the body is not JSON: {error}") from None
        asked = self._asked(request)
        if len(asked) > most_rows:
            raise TooLargeError(
                f"{len(asked)} rows in one request; at most {most_rows} are answered at once. "
                "Send them in several requests"
            )
        return asked

    def _asked(self, request: Any) -> Asked:
        given = [form for form in _FORMS if getattr(request, form) is not msgspec.UNSET]
        if len(given) != 1:
            raise invalid(
                "give one of `rows`, `columns` and `entities`; "
                f"this request has {' and '.join(given) or 'none of them'}"
            )
        [form] = given
        if request.as_of is not msgspec.UNSET and form != "entities":
            raise invalid("`as_of` belongs to `entities`: given features are used as they are")
        if form == "entities":
            return Asked(self._entities(request), form)
        inputs = self._from_rows(request.rows) if form == "rows" else self._columns(request.columns)
        if not len(inputs):
            raise invalid(f"`{form}` holds no row; give at least one")
        return Asked(inputs, form)

    @staticmethod
    def _entities(request: Any) -> Entities:
        if not request.entities:
            raise invalid("`entities` holds no key; give at least one")
        as_of = None if request.as_of is msgspec.UNSET else request.as_of
        if as_of is not None and as_of.tzinfo is None:
            raise invalid("`as_of` has no time zone", [FieldProblem("as_of", "text", _MOMENT)])
        return Entities(request.entities, as_of)

    def _from_rows(self, rows: list[Any]) -> Inputs:
        numeric = self.schema.numeric
        numbers = _numbers((self._numbers_of(row) for row in rows), len(numeric))
        return Inputs(
            numbers.reshape(len(rows), len(numeric)),
            tuple([category(row) for row in rows] for category in self._categories_of),
        )

    def _columns(self, columns: Any) -> Inputs:
        lengths = {name: len(getattr(columns, name)) for name in self.contract.names}
        rows = lengths[self.contract.names[0]]
        if wrong := [name for name, length in lengths.items() if length != rows]:
            expected = f"{rows} values, as {self.contract.names[0]} has"
            raise invalid(
                "columns are not equally long",
                [FieldProblem(f"columns.{n}", f"{lengths[n]} values", expected) for n in wrong],
            )
        numeric = self.schema.numeric
        numbers = _numbers((getattr(columns, name) for name in numeric), rows)
        return Inputs(
            np.ascontiguousarray(numbers.reshape(len(numeric), rows).T),
            tuple(getattr(columns, name) for name in self.schema.categorical),
        )

    # Arrow --------------------------------------------------------------------------------------

    def _from_arrow(self, body: bytes, most_rows: int) -> Inputs:
        from mlops_assets.serving.arrow_streams import read_stream

        table = read_stream(body, most_rows)
        names = table.column_names
        errors = list(self._names(names, "columns"))
        errors += [
            FieldProblem(f"columns.{name}", f"{count} columns", "one column")
            for name in self.contract.names
            if (count := names.count(name)) > 1
        ]
        if errors:
            raise invalid("the columns are not those of the model", errors)
        if not len(table):
            raise invalid("the stream holds no row; give at least one")
        numbers = self._arrow_numbers(table, errors)
        categories = tuple(_arrow_text(table, name, errors) for name in self.schema.categorical)
        if errors:
            raise invalid("the values do not fit the model's contract", errors)
        return Inputs(numbers, categories)

    def _arrow_numbers(self, table: "pa.Table", errors: list[FieldProblem]) -> NDArray[np.float32]:
        numbers = np.empty((len(table), len(self.schema.numeric)), np.float32)
        nulls = np.zeros(len(self.schema.numeric), np.intp)
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
            for place, name in enumerate(self.schema.numeric):
                column = _plain_numbers(table[name], self._fields[name])
                if column is None:
                    errors.append(_wrong_type(name, table, _ARROW_KINDS[self._fields[name].kind]))
                    numbers[:, place] = 0
                    continue
                nulls[place] = column.null_count
                numbers[:, place] = column.to_numpy()
        if np.isfinite(numbers).all():
            return numbers
        # Null became NaN. More of those than nulls were given as NaN, which means nothing here.
        infinite, unknown = np.isinf(numbers), np.isnan(numbers)
        given_as_nan = unknown.sum(axis=0) > nulls
        wrong = infinite.any(axis=0) | given_as_nan
        for name in np.array(self.schema.numeric)[wrong].tolist():
            expected = f"numbers within ±{LARGEST:.3g}, or null"
            errors.append(FieldProblem(f"columns.{name}", "no finite number", expected))
        return numbers

    # What is wrong ------------------------------------------------------------------------------

    def _explained(self, body: bytes, first: str) -> InvalidRequestError:
        """Look at a refused request value by value."""
        try:
            raw = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return invalid(f"the body is not JSON that is read here: {error}")
        # One more than is listed, so that it is known whether there are more.
        errors = list(islice(self._mistakes(raw), MOST_ERRORS + 1))
        if errors:
            return invalid("the values do not fit the model's contract", errors)
        return invalid(f"the request is not as it should be: {first}")

    def _mistakes(self, raw: Any) -> Iterator[FieldProblem]:
        if not isinstance(raw, dict):
            yield FieldProblem("body", _kind_of(raw), f"an object with one of {', '.join(_FORMS)}")
            return
        parts: dict[str, Callable[[str, Any], Iterator[FieldProblem]]] = {
            "rows": self._mistakes_in_rows,
            "columns": self._mistakes_in_columns,
            "entities": _mistakes_in_entities,
            "as_of": _mistakes_in_moment,
        }
        for name, part in raw.items():
            if name in parts:
                yield from parts[name](name, part)
            else:
                yield FieldProblem(name[:100], "unknown", f"one of {', '.join(parts)}")

    def _mistakes_in_rows(self, where: str, rows: Any) -> Iterator[FieldProblem]:
        for at, values in _objects(where, rows):
            if isinstance(values, FieldProblem):
                yield values
                continue
            yield from self._names(values, at)
            for name, value in values.items():
                yield from self._mistake(f"{at}.{name}", name, value)

    def _mistakes_in_columns(self, where: str, columns: Any) -> Iterator[FieldProblem]:
        if not isinstance(columns, dict):
            yield FieldProblem(where, _kind_of(columns), "an object with one list a feature")
            return
        yield from self._names(columns, where)
        for name, values in columns.items():
            if name in self._types and not isinstance(values, list):
                yield FieldProblem(f"{where}.{name}", _kind_of(values), "a list")
                continue
            for row, value in enumerate(values if name in self._types else ()):
                yield from self._mistake(f"{where}.{name}[{row}]", name, value)

    def _names(self, given: Collection[str], where: str) -> Iterator[FieldProblem]:
        for field in self.contract.fields:
            if field.name not in given:
                yield FieldProblem(f"{where}.{field.name}", "missing", _expected(field))
        for name in given:
            if name not in self._types:
                yield FieldProblem(f"{where}.{name[:100]}", "unknown", "a feature of the model")

    def _mistake(self, where: str, name: str, value: Any) -> Iterator[FieldProblem]:
        if name in self._types and not _fits(value, self._types[name]):
            yield FieldProblem(where, _kind_of(value), _expected(self._fields[name]))


def _objects(where: str, values: Any) -> Iterator[tuple[str, Any]]:
    """Return each object of a list with where it stands; a problem in place of what is none."""
    if not isinstance(values, list):
        yield where, FieldProblem(where, _kind_of(values), "a list of objects")
        return
    for row, value in enumerate(values):
        at = f"{where}[{row}]"
        is_object = isinstance(value, dict)
        yield at, value if is_object else FieldProblem(at, _kind_of(value), "an object")


def _mistakes_in_entities(where: str, entities: Any) -> Iterator[FieldProblem]:
    for at, values in _objects(where, entities):
        if isinstance(values, FieldProblem):
            yield values
            continue
        for name, value in values.items():
            if not _fits(name, _Text):
                yield FieldProblem(f"{at}.{name[:100]}", "unknown", "a column of the spine")
            elif not _fits(value, _Plain):
                yield FieldProblem(f"{at}.{name[:100]}", _kind_of(value), _PLAIN)


def _mistakes_in_moment(where: str, moment: Any) -> Iterator[FieldProblem]:
    if not _fits(moment, datetime):
        yield FieldProblem(where, _kind_of(moment), _MOMENT)


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _numbers(groups: Iterable[Sequence[float | None]], length: int) -> NDArray[np.float32]:
    """Return equally long groups of numbers one after another, in single precision; None is NaN."""
    groups = list(groups)
    packed = Struct(f"={length}f")  # a third of the time that NumPy needs to find types
    try:
        return np.frombuffer(bytearray().join([packed.pack(*each) for each in groups]), np.float32)
    except StructError:  # some are missing
        return np.array(groups, np.float32).reshape(-1)


def _getter(names: Sequence[str]) -> Any:
    """Return a function that takes these attributes of an object as a tuple."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        one = attrgetter(names[0])
        return lambda row: (one(row),)
    return attrgetter(*names)


def _type(field: InputField) -> Any:
    kind: Any = {Kind.category: _Text, Kind.boolean: bool}.get(field.kind, _Number)
    # Whether a value may be missing is for the contract's other rules: a row that was looked up is
    # held to the same.
    return kind | None


def _expected(field: InputField) -> str:
    words = {
        Kind.category: f"text of at most {_LONGEST_TEXT} characters",
        Kind.boolean: "true or false",
        Kind.integer: "a whole number",
        Kind.number: f"a number within ±{LARGEST:.3g}",
    }
    return f"{words[field.kind]}, or null"


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number" if abs(value) <= LARGEST else "huge number"
    if isinstance(value, str):
        return "text" if len(value) <= _LONGEST_TEXT else "long text"
    return "list" if isinstance(value, list) else "object"


_ARROW_KINDS = {Kind.number: "numbers", Kind.integer: "whole numbers", Kind.boolean: "booleans"}


def _plain_numbers(column: "pa.ChunkedArray", field: InputField) -> "pa.ChunkedArray | None":
    """Return a column as NumPy can read it; None when it holds other values than its feature."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.float64())
    if (field.kind is Kind.boolean) != pa.types.is_boolean(kind):
        return None
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8())
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    return column if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None


def _arrow_text(table: "pa.Table", name: str, errors: list[FieldProblem]) -> Sequence[str | None]:
    from mlops_assets.serving.arrow_streams import longest_text, texts

    column = table[name]
    longest = longest_text(column, _LONGEST_TEXT)
    if longest is None:
        errors.append(_wrong_type(name, table, "text"))
        return []
    if longest > _LONGEST_TEXT:
        expected = f"text of at most {_LONGEST_TEXT} characters"
        errors.append(FieldProblem(f"columns.{name}", "long text", expected))
        return []
    return texts(column)


def _wrong_type(name: str, table: "pa.Table", expected: str) -> FieldProblem:
    return FieldProblem(f"columns.{name}", f"column of {str(table[name].type)[:100]}", expected)
