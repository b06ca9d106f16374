"""Matching the columns a source has to the columns a table wants."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_assets.ingestion.errors import FileRefusal, listing


@dataclass(frozen=True)
class Wanted:
    """The columns that a source must or may have.

    Attributes
    ----------
    required
        Must be there: columns of the contract, and those that derived columns are computed from.
    optional
        May be missing, and are null then.
    ignore_others
        Whether further columns are left aside instead of refused.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    ignore_others: bool = False


def match_header(
    header: Sequence[str], wanted: Wanted, *, source: str, source_hash: str | None
) -> dict[str, int] | FileRefusal:
    """Find each wanted column's position, or say what is wrong with the header.

    Parameters
    ----------
    header
        The source's column names, in its order.
    wanted
        What is looked for. Names must be equal to the letter; their order does not matter.
    source, source_hash
        For the refusal.

    Returns
    -------
    dict or FileRefusal
        Position (from 0) by column name; a missing optional column is left out.
    """
    known = {*wanted.required, *wanted.optional}
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice and not (wanted.ignore_others and known.isdisjoint(twice)):
        return FileRefusal(
            source,
            rule="unique_columns",
            problem=f"the header names {len(twice)} columns more than once: {listing(twice)}",
            remedy="Rename or remove the repeated columns in the source.",
            source_hash=source_hash,
            column=listing(twice),
        )
    missing = [name for name in wanted.required if name not in header]
    extra = [] if wanted.ignore_others else [name for name in header if name not in known]
    if not missing and not extra:
        return {name: header.index(name) for name in header if name in known}
    unused = missing + [name for name in wanted.optional if name not in header]
    renamed = _renamed(unused, [name for name in header if name not in known])
    problems = []
    if missing:
        problems.append(f"lacks {len(missing)} of the contract's columns: {listing(missing)}")
    if extra:
        problems.append(f"has {len(extra)} columns that the contract lacks: {listing(extra)}")
    guesses = "".join(f" Is {theirs!r} the contract's {ours!r}?" for theirs, ours in renamed)
    return FileRefusal(
        source,
        rule="columns",
        problem=f"the header of {len(header)} columns {' and '.join(problems)}.{guesses}".rstrip(
            "."
        ),
        remedy="Correct the source, or change the contract if the table is meant to change.",
        source_hash=source_hash,
        column=listing(missing + extra),
    )


def _renamed(missing: Sequence[str], extra: Sequence[str]) -> list[tuple[str, str]]:
    """Pair each missing column with the unknown one that is most like it."""
    by_folded = {name.strip().casefold(): name for name in extra}
    pairs = []
    for name in missing[:5]:
        close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
        if close:
            pairs.append((by_folded[close[0]], name))
    return pairs
