"""A model card as Markdown: GitHub-flavoured, every table valid whatever its cells hold."""

import re
from collections.abc import Iterable, Sequence

from mlops_assets.registry.card.content import Measured, ModelCard
from mlops_assets.registry.card.layout import (
    Block,
    Bullets,
    Cell,
    Commands,
    Facts,
    Flow,
    Mono,
    Paragraph,
    Pictures,
    Table,
    Tagged,
    Verdict,
    interval,
    moment,
    number,
    sections,
)

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")


def render_markdown(card: ModelCard) -> str:
    """Return a card as Markdown."""
    it, primary = card.identity, card.primary
    origin = (
        f"{_text(it.candidate)} ({_text(it.algorithm)}), registered {moment(it.registered_at)}."
    )
    standing = f"**{card.status}**. {_text(primary.title)} on test: {_cell(primary.test)}."
    lines = [
        f"# {_text(it.name)}",
        "",
        _text(it.description),
        "",
        f"{origin} {standing}",
        "",
    ]
    for section in sections(card):
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    lines.append(f"Made {moment(card.made_at)} from run `{it.run_id}`.")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _block(block: Block) -> Iterable[str]:
    match block:
        case Paragraph(text):
            return [_text(text)]
        case Verdict(good, text):
            mark = {True: "Passed", False: "Refused", None: "Open"}[good]
            return [f"> **{mark}.** {_text(text)}"]
        case Facts(rows):
            return _table(("", ""), rows, frozenset({0, 1}))
        case Table(headers, rows, text, _):
            return _table(headers, rows, text)
        case Bullets(title, items):
            return [f"**{_text(title)}**", "", *(f"- {_text(item)}" for item in items)]
        case Flow(steps):
            return [
                f"{i}. **{_text(step.title)}**: "
                + ", ".join(f"`{_code(item)}`" for item in step.items)
                for i, step in enumerate(steps, start=1)
            ]
        case Commands(items):
            return [line for does, command in items for line in _command(does, command)]
        case Pictures():
            return []


def _command(does: str, command: str) -> list[str]:
    language = "python" if "\n" in command or "(" in command else "console"
    return [f"{_text(does)}:", "", f"```{language}", *command.splitlines(), "```", ""]


def _table(
    headers: Sequence[str], rows: Iterable[Sequence[Cell]], text: frozenset[int]
) -> list[str]:
    rule = ["---" if i in text else "---:" for i in range(len(headers))]
    return [
        _row(_text(header) for header in headers),
        _row(rule),
        *(_row(_cell(cell) for cell in row) for row in rows),
    ]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    match cell:
        case Measured(value=None):
            return f"not computable: {_text(cell.reason)}"
        case Measured():
            ends = interval(cell)
            return f"{number(cell)} ({ends})" if ends else f"{number(cell)} (no interval)"
        case Mono(text):
            return f"`{_code(text)}`"
        case Tagged(text, tags):
            return " ".join([_text(text), *(f"({_text(tag)})" for tag in tags)])
        case _:
            return _text(cell)


def _text(text: str) -> str:
    """Keep text from being taken for markup, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Keep text within one pair of backticks, and a table's cell within its bars."""
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|")
