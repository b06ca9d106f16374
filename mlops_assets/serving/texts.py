"""A column of texts in which the same ones come again and again, as an Arrow dictionary has it."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class RepeatedTexts(Sequence[str | None]):
    """A sequence of texts that keeps each different one once.

    What is to be done with every text (look whether it is known, encode it) is done with the
    different ones, and a thousand rows cost little more than one. No dataclass, which the log would
    write as a mapping.

    Parameters
    ----------
    different
        The texts, and None where some are missing; there may be some that no row has.
    places
        For each row, which of them it is; shape (rows,).
    """

    __slots__ = ("different", "places")

    def __init__(self, different: tuple[str | None, ...], places: NDArray[np.integer]) -> None:
        self.different = different
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> str | None: ...
    @overload
    def __getitem__(self, row: slice) -> "RepeatedTexts": ...
    def __getitem__(self, row: int | slice) -> "str | RepeatedTexts | None":
        if isinstance(row, slice):
            return RepeatedTexts(self.different, self.places[row])
        text: str | None = self.different[self.places[row]]
        return text

    def of(self, values: Sequence[object]) -> NDArray[np.object_]:
        """Return for each row what stands in `values` where its text stands in `different`."""
        table = np.empty(len(values), object)
        table[:] = values
        chosen: NDArray[np.object_] = table[self.places]
        return chosen

    def tolist(self) -> list[str | None]:
        """Return the texts as a list, a row each."""
        found: list[str | None] = self.of(self.different).tolist()
        return found


def different(values: Sequence[str | None]) -> Sequence[str | None]:
    """Return values among which is every one of a column, without repeating them where it can."""
    return values.different if isinstance(values, RepeatedTexts) else values


def with_missing(values: Sequence[str | None], text: str) -> Sequence[str]:
    """Return a column with a text in the place of None."""
    if None not in different(values):
        return values  # type: ignore[return-value] # none of them is None
    filled = tuple(text if value is None else value for value in different(values))
    return RepeatedTexts(filled, values.places) if isinstance(values, RepeatedTexts) else filled  # type: ignore[return-value] # as above


def as_bytes(values: Sequence[str]) -> NDArray[np.object_]:
    """Return a column of texts encoded, each different one once; shape (rows,)."""
    if isinstance(values, RepeatedTexts):
        return values.of([str(text).encode() for text in values.different])
    known = {text: text.encode() for text in set(values)}
    column = np.empty(len(values), object)
    column[:] = [*map(known.__getitem__, values)]
    return column
