"""The documentation says what the code does."""

import importlib.util
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def _reference_pages():
    spec = importlib.util.spec_from_file_location("pages", PROJECT / "docs" / "reference_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("name", ["settings.md", "yaml.md"])
def test_the_reference_is_up_to_date(name: str) -> None:
    written = (PROJECT / "docs" / "reference" / name).read_text()
    assert written == _reference_pages()[name], "run `python docs/reference_pages.py`"


def test_every_decision_is_listed() -> None:
    folder = PROJECT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    missing = [p.name for p in folder.glob("0*.md") if f"({p.name})" not in index]
    assert missing == []
