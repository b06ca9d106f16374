"""The base of every declaration, and the constraints that one keeps over several of its keys."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from mlops_assets.declaration.problem import Problem

BROKEN_CONSTRAINTS = "broken_constraints"
"""The type of Pydantic's error for constraints that a declaration breaks."""

Method = TypeVar("Method", bound=Callable[[Any], Iterator[Problem]])


class UnreadableError(Exception):
    """A key was read that is missing or not valid, so that nothing can be said that rests on it."""


def constraint(method: Method) -> Method:
    """Mark a method of a declaration as a constraint over several of its keys.

    It yields what is wrong, with keys from the declaration on, and reads what it needs. It is also
    judged where other keys are wrong; once it reads such a key, it says nothing more.
    """
    method.is_constraint = True  # type: ignore[attr-defined]  # the mark
    return method


def judge(*constraints: Iterator[Problem]) -> Iterator[Problem]:
    """Yield what each constraint finds; one that reads what is not valid is left where it is."""
    for found in constraints:
        try:
            yield from found
        except UnreadableError:
            continue


class Declared(BaseModel):
    """A frozen piece of a declaration: an unknown key is an error, and nothing changes afterwards.

    What is wrong with the text it is made from says `mlops_assets.declaration.find_problems`.
    """

    # A value may hold a secret, so that Pydantic's own errors must not quote it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def completed(cls, document: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Return the document with what follows from the rest of it filled in."""
        return document

    def broken_constraints(self) -> Iterator[Problem]:
        """Say which constraints over several keys it breaks; keys count from here."""
        for kind in type(self).__mro__:
            for method in vars(kind).values():
                if getattr(method, "is_constraint", False):
                    yield from judge(method(self))

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        return cls.completed(data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _keeps_its_constraints(self) -> Self:
        if said := "; ".join(map(str, self.broken_constraints())):
            raise PydanticCustomError(BROKEN_CONSTRAINTS, "{said}", {"said": said})
        return self

    if not TYPE_CHECKING:  # else every misspelt attribute would pass the type checker

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise UnreadableError(name)
            return super().__getattr__(name)
