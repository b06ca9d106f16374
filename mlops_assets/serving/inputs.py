"""The rows a model is asked about, as arrays, and the checks of its contract over all of them.

Checks are one pass of NumPy over the matrix of numbers, so that a thousand rows cost hardly more
than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.serving.security.problems import FieldProblem, InvalidRequestError
from mlops_assets.serving.texts import as_bytes, different, with_missing
from mlops_assets.training.dataset import MISSING, FeatureSchema
from mlops_assets.training.input_contract import InputContract, Kind

if TYPE_CHECKING:
    import pandas as pd

MOST_ERRORS = 20
"""More mistakes in one request than this are not listed."""

Categories = tuple[Sequence[str | None], ...]


def invalid(detail: str, errors: Sequence[FieldProblem] = ()) -> InvalidRequestError:
    """Return the error of a request whose content is wrong, listing the first mistakes."""
    more = f"; there are more than the {MOST_ERRORS} that are listed"
    return InvalidRequestError(
        f"{detail}{more if len(errors) > MOST_ERRORS else ''}", errors=errors[:MOST_ERRORS]
    )


@dataclass(frozen=True, slots=True)
class Inputs:
    """Rows as a model sees them.

    Attributes
    ----------
    numbers
        Shape (rows, numeric features), in the schema's order; NaN for null.
    categories
        One sequence of `rows` values a categorical feature, in the schema's order.
    """

    numbers: NDArray[np.float32]
    categories: Categories

    def __len__(self) -> int:
        return len(self.numbers)

    def objects(self, schema: FeatureSchema) -> NDArray[np.object_]:
        """Return the rows as one matrix of Python values, shape (rows, features)."""
        numeric, categorical = _places(schema)
        matrix = np.empty((len(self), len(schema.names)), object)
        matrix[:, numeric] = self.numbers
        for place, values in zip(categorical, self.texts(), strict=True):
            matrix[:, place] = values
        return matrix

    def texts(self) -> list[Sequence[str]]:
        """Return the categories with `MISSING` for null."""
        return [with_missing(values, MISSING) for values in self.categories]

    def encoded(self) -> list[NDArray[np.object_]]:
        """Return the categories in UTF-8, with `MISSING` for null; one array of `rows` each."""
        return [as_bytes(values) for values in self.texts()]

    def frame(self, schema: FeatureSchema) -> "pd.DataFrame":
        """Return the rows as the frame that estimators take."""
        import pandas as pd

        columns: dict[str, Any] = {
            name: self.numbers[:, place] for place, name in enumerate(schema.numeric)
        }
        for name, values in zip(schema.categorical, self.texts(), strict=True):
            columns[name] = pd.Categorical(list(values))
        return pd.DataFrame({name: columns[name] for name in schema.names}, copy=False)

    def take(self, first: int, last: int) -> "Inputs":
        """Return the rows from `first` up to, not including, `last`."""
        return Inputs(
            self.numbers[first:last], tuple(values[first:last] for values in self.categories)
        )


@lru_cache(maxsize=64)
def _places(schema: FeatureSchema) -> tuple[NDArray[np.intp], list[int]]:
    """Return where numbers and categories are among all features."""
    places = {name: place for place, name in enumerate(schema.names)}
    numeric = np.array([places[name] for name in schema.numeric], np.intp)
    return numeric, [places[name] for name in schema.categorical]


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Put the rows of several requests below each other."""
    if len(parts) == 1:
        return parts[0]
    categories = tuple(
        [value for values in column for value in values]
        for column in zip(*(part.categories for part in parts), strict=True)
    )
    return Inputs(np.concatenate([part.numbers for part in parts]), categories)


@dataclass(frozen=True)
class Policy:
    """What to do about values that the model never saw.

    Attributes
    ----------
    refuse_unseen
        Refuse a category that was not there in training, instead of answering with a warning.
    refuse_outside
        Refuse a number beyond those seen in training, and a missing value where none was missing,
        instead of answering with a warning.
    """

    refuse_unseen: bool = False
    refuse_outside: bool = False


@dataclass(frozen=True)
class InputCheck:
    """The rules of one model's contract, ready to be applied.

    Attributes
    ----------
    contract
        The model's.
    schema
        Its features.
    policy
        What is refused and what is only said.
    """

    contract: InputContract
    schema: FeatureSchema
    policy: Policy = field(default_factory=Policy)

    @cached_property
    def _limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        numeric = [self._by_name[name] for name in self.schema.numeric]
        low = [-np.inf if each.low is None else each.low for each in numeric]
        high = [np.inf if each.high is None else each.high for each in numeric]
        return np.array(low, np.float32), np.array(high, np.float32)

    @cached_property
    def _by_name(self) -> dict[str, Any]:
        return {each.name: each for each in self.contract.fields}

    @cached_property
    def _whole(self) -> NDArray[np.intp]:
        return np.array(
            [
                place
                for place, name in enumerate(self.schema.numeric)
                if self._by_name[name].kind is Kind.integer
            ],
            dtype=np.intp,
        )

    @cached_property
    def _required(self) -> NDArray[np.intp]:
        return np.array(
            [
                place
                for place, name in enumerate(self.schema.numeric)
                if not self._by_name[name].nullable
            ],
            dtype=np.intp,
        )

    @cached_property
    def _seen(self) -> tuple[frozenset[str], ...]:
        return tuple(frozenset(self._by_name[name].categories) for name in self.schema.categorical)

    def warnings(self, inputs: Inputs, where: str = "rows") -> tuple[str, ...]:
        """Check rows, and return what is odd about them though it can be answered.

        Parameters
        ----------
        inputs
            Rows to check.
        where
            How the request calls them, for messages.

        Raises
        ------
        InvalidRequestError
            Naming each field, when a value cannot be answered for.
        """
        if self._is_ordinary(inputs):
            return ()
        errors: list[FieldProblem] = []
        numeric = self.schema.numeric
        whole = inputs.numbers[:, self._whole]
        broken = ~np.isnan(whole) & (whole != np.rint(whole))
        if broken.any():
            for row, place in np.argwhere(broken)[: MOST_ERRORS + 1]:
                name = numeric[self._whole[place]]
                errors.append(FieldProblem(f"{where}[{row}].{name}", "fraction", "a whole number"))
        odd = [
            *self._missing(inputs, where, errors),
            *self._outside(inputs, where, errors),
            *self._unseen(inputs, where, errors),
        ]
        if errors:
            raise invalid("the values do not fit the model's contract", errors)
        return tuple(odd)

    def _is_ordinary(self, inputs: Inputs) -> bool:
        """Return whether no value is missing, broken or new: for most requests all there is to do.

        Whatever it is, the rules below say it in words.
        """
        numbers = inputs.numbers
        low, high = self._limits
        # A missing number is within no limits.
        if not ((numbers >= low) & (numbers <= high)).all():
            return False
        if len(self._whole):
            whole = numbers[:, self._whole]
            if not (whole == np.rint(whole)).all():
                return False
        # Where nothing is known of a category, only that it is missing could be said.
        return all(
            seen.issuperset(different(values)) if seen else None not in different(values)
            for values, seen in zip(inputs.categories, self._seen, strict=True)
        )

    def _missing(self, inputs: Inputs, where: str, errors: list[FieldProblem]) -> list[str]:
        """Find values that are missing where none was in training."""
        said = []
        numbers = np.isnan(inputs.numbers[:, self._required])
        absent = [
            (self.schema.numeric[self._required[place]], np.flatnonzero(numbers[:, place]))
            for place in np.flatnonzero(numbers.any(axis=0))
        ]
        for name, values in zip(self.schema.categorical, inputs.categories, strict=True):
            if None in values and not self._by_name[name].nullable:
                absent.append((name, np.array([row for row, v in enumerate(values) if v is None])))
        for name, rows in absent:
            if self.policy.refuse_outside:
                expected = f"{self._by_name[name].kind}; it was never missing in training"
                errors.append(FieldProblem(f"{where}[{rows[0]}].{name}", "null", expected))
            else:
                said.append(f"{name}: {len(rows)} of {len(inputs)} missing, never so in training")
        return said

    def _outside(self, inputs: Inputs, where: str, errors: list[FieldProblem]) -> list[str]:
        low, high = self._limits
        outside = (inputs.numbers < low) | (inputs.numbers > high)
        if not outside.any():
            return []
        said = []
        for place in np.flatnonzero(outside.any(axis=0)):
            field_ = self._by_name[self.schema.numeric[place]]
            rows = np.flatnonzero(outside[:, place])
            seen = f"{field_.low:g} to {field_.high:g} in training"
            if self.policy.refuse_outside:
                at = f"{where}[{rows[0]}].{field_.name}"
                errors.append(FieldProblem(at, "number outside what was seen", seen))
            else:
                said.append(f"{field_.name}: {len(rows)} of {len(inputs)} outside {seen}")
        return said

    def _unseen(self, inputs: Inputs, where: str, errors: list[FieldProblem]) -> list[str]:
        said = []
        columns = zip(self.schema.categorical, inputs.categories, self._seen, strict=True)
        for name, values, seen in columns:
            if not seen:
                continue
            new = set(different(values)) - seen - {None}
            if not new:
                continue
            rows = [row for row, value in enumerate(values) if value in new]
            if self.policy.refuse_unseen:
                expected = f"one of the {len(seen)} values seen in training"
                errors.append(FieldProblem(f"{where}[{rows[0]}].{name}", "unseen text", expected))
            else:
                said.append(f"{name}: {len(rows)} of {len(inputs)} not seen in training")
        return said
