"""The rules that a contract makes, by name and in words.

What belongs here: one `Rule` for everything an audit can find, in a fixed order and under a name
that stays the same from batch to batch, so that a report, a Dagster asset check and a data
dictionary speak of the same rule. How rules are evaluated is `evaluation.py`.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from pandera.api.checks import Check

from mlops_assets.quality.contract import NON_FINITE, Contract, keys, schema_of

Severity = Literal["error", "warn"]


class Kind(StrEnum):
    """What a rule looks at."""

    structure = "structure"
    readable = "readable"
    window = "window"
    not_null = "not_null"
    finite = "finite"
    check = "check"
    key = "key"
    published_key = "published_key"


@dataclass(frozen=True)
class Rule:
    """One rule of a contract.

    Attributes
    ----------
    name
        Unique in its contract; letters, digits and ``_`` only: ``dep_delay__ge``.
    column
        The column it judges; several, comma-separated, for a key; None for the whole row or table.
    rule
        The rule in words: ``at least 0``.
    description
        A sentence for people.
    severity
        ``warn`` (Pandera's ``raise_warning``) is counted and shown but refuses nothing.
    kind
        What it looks at.
    check
        The Pandera check behind it, where there is one.
    """

    name: str
    column: str | None
    rule: str
    description: str
    kind: Kind
    severity: Severity = "error"
    check: Check | None = field(default=None, repr=False, compare=False)


STRUCTURE = Rule(
    "structure",
    None,
    "the contract's columns and types",
    "The batch has the columns of the contract, in any order, with their types, and no others.",
    Kind.structure,
)
READABLE = Rule(
    "readable",
    None,
    "readable as declared",
    "Every value of the source could be read as its column's type, and lies in the period of its "
    "file.",
    Kind.readable,
)


def rules(
    contract: type[Contract],
    *,
    window: str | None = None,
    published_keys: Sequence[tuple[str, ...]] = (),
) -> tuple[Rule, ...]:
    """Return every rule of ``contract``.

    Parameters
    ----------
    contract
        The contract.
    window
        The half-open window that a windowed batch must stay inside, in words; None where the table
        is not published by window.
    published_keys
        Keys of the contract by which a batch is also compared with the rows that stay published.

    Returns
    -------
    tuple of Rule
        Structure first, then column by column, then keys, then rules on whole rows or tables.
    """
    found = [STRUCTURE, READABLE, *_column_rules(contract), *_key_rules(contract)]
    for key in published_keys:
        named = ", ".join(key)
        sentence = f"No row has the same {named} as a row that stays published."
        words = "unique key among the published rows"
        found.append(Rule("published_key", named, words, sentence, Kind.published_key))
    if window is not None:
        sentence = "Every row lies inside the window that the batch replaces."
        found.append(Rule("inside_window", None, window, sentence, Kind.window))
    found += [_check_rule(check, None) for check in schema_of(contract).checks]
    return tuple(_with_unique_names(found))


def constraints(contract: type[Contract], column: str) -> tuple[str, ...]:
    """Return the rules on one column in words, for documentation; nullability is left out."""
    checks = list(schema_of(contract).columns[column].checks)
    words = ["key"] if any(column in key for key in keys(contract)) else []
    bounds = {check.name: check for check in checks}
    low, high = bounds.get("greater_than_or_equal_to"), bounds.get("less_than_or_equal_to")
    if low is not None and high is not None:
        checks = [c for c in checks if c is not low and c is not high]
        words.append(_between(low.statistics["min_value"], high.statistics["max_value"]))
    return (*words, *(_words(check) for check in checks))


def _column_rules(contract: type[Contract]) -> Iterator[Rule]:
    for name, column in schema_of(contract).columns.items():
        if not column.nullable:
            sentence = f"{name} is never null."
            yield Rule(f"{name}__not_null", name, "not null", sentence, Kind.not_null)
        if column.dtype.type.is_floating() and not (column.metadata or {}).get(NON_FINITE):
            sentence = f"{name} is never NaN or infinite."
            yield Rule(f"{name}__finite", name, "finite", sentence, Kind.finite)
        for check in column.checks:
            yield _check_rule(check, name)


def _key_rules(contract: type[Contract]) -> Iterator[Rule]:
    for key in keys(contract):
        named = ", ".join(key)
        sentence = f"No two rows have the same {named}."
        yield Rule("key", named, "unique key", sentence, Kind.key)


def _check_rule(check: Check, column: str | None) -> Rule:
    short = _SHORT.get(str(check.name), str(check.name))
    words = _words(check)
    return Rule(
        name=short if column is None else f"{column}__{short}",
        column=column,
        rule=words,
        description=inspect.cleandoc(
            check.description or (words if column is None else f"{column}: {words}.")
        ),
        kind=Kind.check,
        severity="warn" if check.raise_warning else "error",
        check=check,
    )


def _with_unique_names(found: list[Rule]) -> Iterator[Rule]:
    seen: dict[str, int] = {}
    for rule in found:
        name = re.sub(r"\W", "_", rule.name, flags=re.ASCII)
        seen[name] = seen.get(name, 0) + 1
        yield replace(rule, name=name if seen[name] == 1 else f"{name}_{seen[name]}")


_SHORT = {
    "equal_to": "eq",
    "not_equal_to": "ne",
    "greater_than": "gt",
    "greater_than_or_equal_to": "ge",
    "less_than": "lt",
    "less_than_or_equal_to": "le",
}


def _between(low: object, high: object) -> str:
    return f"between {low} and {high}"


def _in_range(given: Mapping[str, Any]) -> str:
    low, high = given["min_value"], given["max_value"]
    if given["include_min"] and given["include_max"]:
        return _between(low, high)
    lower = "at least" if given["include_min"] else "more than"
    upper = "at most" if given["include_max"] else "less than"
    return f"{lower} {low} and {upper} {high}"


def _str_length(given: Mapping[str, Any]) -> str:
    if given.get("exact_value") is not None:
        return f"{given['exact_value']} characters long"
    low, high = given.get("min_value"), given.get("max_value")
    if low is None:
        return f"at most {high} characters long"
    if high is None:
        return f"at least {low} characters long"
    return f"{low} to {high} characters long"


def _listed(values: Any) -> str:
    words = [str(value) for value in values]
    return ", ".join(sorted(words) if isinstance(values, (set, frozenset)) else words)


def _pattern(value: str | re.Pattern[str]) -> str:
    return value.pattern if isinstance(value, re.Pattern) else value


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "equal_to": lambda given: f"equal to {given['value']}",
    "not_equal_to": lambda given: f"not {given['value']}",
    "greater_than": lambda given: f"more than {given['min_value']}",
    "greater_than_or_equal_to": lambda given: f"at least {given['min_value']}",
    "less_than": lambda given: f"less than {given['max_value']}",
    "less_than_or_equal_to": lambda given: f"at most {given['max_value']}",
    "in_range": _in_range,
    "isin": lambda given: f"one of {_listed(given['allowed_values'])}",
    "notin": lambda given: f"none of {_listed(given['forbidden_values'])}",
    "str_matches": lambda given: f"matches {_pattern(given['pattern'])}",
    "str_contains": lambda given: f"contains {_pattern(given['pattern'])}",
    "str_startswith": lambda given: f"starts with {given['string']}",
    "str_endswith": lambda given: f"ends with {given['string']}",
    "str_length": _str_length,
    "unique_values_eq": lambda given: f"takes exactly the values {_listed(given['values'])}",
}


def _words(check: Check) -> str:
    name = str(check.name)
    if name in _WORDS and check.statistics:
        return _WORDS[name](check.statistics)
    first_line = inspect.cleandoc(check.description or "").partition("\n")[0]
    return first_line.rstrip(".") or name.replace("_", " ")
