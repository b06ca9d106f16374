"""A wrong ``defs.yaml`` is refused at load, with the file, the key and what is allowed."""

import sys
from pathlib import Path

import dagster as dg
import pytest

PYPROJECT = """
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "{module}"
"""
DECLARATION = """\
type: mlops_assets.orchestration.raw_table.RawTable
attributes:
  table: raw/orders
  description: Orders.
  owners: ["team:shop"]
  contract: tests.orchestration.contracts:Orders
  source:
    kind: file
    path: orders.csv
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Load a project whose one ``defs.yaml`` has the given text."""
    module = f"project_{abs(hash(request.node.name))}"
    folder = tmp_path / module / "defs" / "orders"
    folder.mkdir(parents=True)
    for package in (tmp_path / module, tmp_path / module / "defs"):
        (package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.format(module=module))
    monkeypatch.syspath_prepend(str(tmp_path))

    def load_text(text: str) -> dg.Definitions:
        (folder / "defs.yaml").write_text(text)
        try:
            return dg.load_from_defs_folder(project_root=tmp_path)
        finally:
            for name in [name for name in sys.modules if name.split(".")[0] == module]:
                del sys.modules[name]

    return load_text


def explained(error: BaseException) -> str:
    """The whole chain of causes, as Dagster shows it."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    return "\n".join(texts)


def test_a_right_declaration_loads(load) -> None:
    [asset] = load(DECLARATION).assets
    assert asset.key == dg.AssetKey(["raw", "orders"])


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (DECLARATION + "  colour: blue\n", ["defs.yaml:10", "colour"]),
        (
            DECLARATION.replace("path: orders.csv", "path: orders.csv\n    shape: round"),
            ["defs.yaml", "shape"],
        ),
        (DECLARATION + "  max_refused_share: plenty\n", ["defs.yaml:10", "max_refused_share"]),
        (DECLARATION + "  max_refused_share: 7\n", ["defs.yaml:10", "less than or equal to 1"]),
        (DECLARATION.replace("raw/orders", "orders"), ["defs.yaml:3", "table"]),
        (
            DECLARATION.replace("  contract: tests.orchestration.contracts:Orders\n", ""),
            ["defs.yaml", "contract", "required"],
        ),
        (
            DECLARATION.replace("contracts:Orders", "contracts:Nothing"),
            ["no contract at", "contracts:Nothing"],
        ),
    ],
    ids=[
        "unknown key",
        "unknown nested key",
        "wrong type",
        "out of range",
        "no table name",
        "missing contract key",
        "missing contract",
    ],
)
def test_a_wrong_declaration_names_file_and_key(load, wrong: str, expected: list[str]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Dagster wraps it in several kinds
        load(wrong)

    text = explained(caught.value)
    for word in expected:
        assert word in text, text
