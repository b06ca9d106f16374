"""What can go wrong while a source is read, and how it is said.

Every message names the source and, as far as they are known, the row, the column, the value and
the rule, and ends with the next step. Rows that are refused one by one are not errors: they travel
in the staged relation and end in quarantine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 20
_VALUE_LENGTH = 200


class IngestionError(Exception):
    """A source could not be read. Nothing was published."""


class SourceNotFoundError(IngestionError):
    """No file matches what the source declares, or a declared thing does not exist."""


class SourceUnavailableError(IngestionError):
    """The source exists but could not be reached or read; trying again later may help."""


class SourceChangedError(IngestionError):
    """A file was still being written while it was read, at every attempt."""


class ScratchError(IngestionError):
    """The scratch folder could not take the staged copy, for instance because its disk is full."""


class DeclarationError(IngestionError):
    """The declaration of a source (its YAML) contradicts itself, the contract or the data."""


@dataclass(frozen=True)
class FileRefusal:
    """Why one file, or one query result, cannot be read as rows at all.

    Attributes
    ----------
    source
        Where it came from, without credentials.
    rule
        Name of the broken rule, such as ``missing_columns`` or ``encoding``.
    problem
        What was found, in words.
    remedy
        The next step.
    source_hash
        SHA-256 of the raw bytes, where they could be read to their end.
    row
        Data row (the first after the header is 1), where known.
    column
        Column or columns concerned.
    value
        The text that broke the rule.
    """

    source: str
    rule: str
    problem: str
    remedy: str
    source_hash: str | None = None
    row: int | None = None
    column: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        """One readable paragraph."""
        value = None if self.value is None else repr(shorten(self.value))
        facts = {"row": self.row, "column": self.column, "value": value, "rule": self.rule}
        known = ", ".join(f"{name} {fact}" for name, fact in facts.items() if fact is not None)
        return f"{self.source}: {self.problem} ({known}). {self.remedy}"


class SourceRefusedError(IngestionError):
    """At least one file of the source cannot be read as rows, so the whole batch is refused.

    The readable files of the same batch are not published either: half a batch would look like a
    whole one to everybody who reads the table afterwards.

    Attributes
    ----------
    refusals
        One entry for each unreadable file.
    files
        How many files the batch has.
    readable
        URI and SHA-256 of the files of the same batch that could be read.
    """

    def __init__(
        self,
        refusals: Sequence[FileRefusal],
        *,
        files: int,
        readable: Sequence[tuple[str, str]] = (),
        outcome: str = "",
    ) -> None:
        self.refusals = tuple(refusals)
        self.files = files
        self.readable = tuple(readable)
        text = "\n".join(str(refusal) for refusal in self.refusals[:_SHOWN])
        if len(self.refusals) > _SHOWN:
            text += f"\n… and {len(self.refusals) - _SHOWN} more files"
        if files > 1:
            text += (
                f"\n{len(self.refusals)} of {files} files cannot be read. None was published, also "
                "none of the readable ones: a batch is published whole or not at all."
            )
        super().__init__(f"{text}\n{outcome}" if outcome else text)


def shorten(text: str) -> str:
    """Cut a value so that it fits into a message."""
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}…"


def listing(names: Sequence[str], *, shown: int = 5) -> str:
    """Name a few of many things and count the rest."""
    text = ", ".join(repr(shorten(name)) for name in names[:shown])
    return text if len(names) <= shown else f"{text} and {len(names) - shown} more"
