"""What a project declares is read from its files, wherever they lie, without Dagster."""

from pathlib import Path

import pytest

from mlops_assets.declaration.files import (
    DeclarationFileError,
    declaration_files,
    declared_attributes,
)

WANTED = "package.Wanted"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_document_of_a_component_is_found_with_its_file(tmp_path: Path):
    deep = write(
        tmp_path / "a" / "b" / "defs.yml",
        f"type: {WANTED}\nattributes: {{n: 1}}\n---\ntype: package.Other\nattributes: {{n: 2}}\n",
    )
    bare = write(tmp_path / "c" / "defs.yaml", f"- a list\n---\ntype: {WANTED}\n")
    write(tmp_path / "other.yaml", f"type: {WANTED}\n")
    assert declaration_files(tmp_path) == [deep, bare]
    assert declared_attributes(tmp_path, WANTED) == [(deep, {"n": 1}), (bare, {})]


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path):
    wrong = write(tmp_path / "defs.yaml", "a: [")
    with pytest.raises(DeclarationFileError, match=f"^{wrong}: cannot be read: "):
        declared_attributes(tmp_path, WANTED)
