"""Requests in every form, and what is said about a refused one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from httpx2 import Response

from mlops_assets.serving.decoding import ARROW, JSON

Problems = list[tuple[str, str, str]]


def arrow(table: pa.Table, **options: Any) -> bytes:
    """Write a table as a stream."""
    sink = pa.BufferOutputStream()
    chosen = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, table.schema, options=chosen) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def table_of(answer: Response) -> pa.Table:
    return pa.ipc.open_stream(answer.content).read_all()


def in_every_form(rows: pa.Table) -> Mapping[str, tuple[str, bytes]]:
    """Return a content type and a body for each form that features can be sent in."""
    return {
        "rows": (JSON, json.dumps({"rows": rows.to_pylist()}).encode()),
        "columns": (JSON, json.dumps({"columns": rows.to_pydict()}).encode()),
        "arrow": (ARROW, arrow(rows)),
    }


def problems(answer: Response, status: int = 422) -> Problems:
    """Return what a refusal says of each field, after a look at the rest of it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == status
    assert said["detail"]
    return [(each["field"], each["kind"], each["expected"]) for each in said.get("errors", [])]


def fields(found: Sequence[Any]) -> list[str]:
    return [each[0] for each in found]
