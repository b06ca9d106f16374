"""Calling a user's Python function and giving what it returns as Arrow batches."""

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops_assets.ingestion.errors import DeclarationError, SourceUnavailableError
from mlops_assets.ingestion.secrets import Secrets
from mlops_assets.ingestion.sources import CallableSource

if TYPE_CHECKING:
    from mlops_assets.lake import Window


def callable_batches(source: CallableSource, window: "Window | None") -> Iterator[pa.RecordBatch]:
    """Call the function and give its rows as they arrive.

    Parameters
    ----------
    source
        The declaration.
    window
        Passed on to the function.

    Yields
    ------
    pyarrow.RecordBatch
        What the function returned. The last one may be empty: it tells the columns.

    Raises
    ------
    DeclarationError
        If there is no such function, or what it returns is not Arrow data or a frame.
    SourceUnavailableError
        If the function raises; the cause is attached.
    """
    function = _function(source.function)
    arguments, secrets = Secrets.fill(source.arguments, f"arguments of {source.function}")
    try:
        result = function(window=window, **arguments)
        yield from _batches(source, result)
    except DeclarationError:
        raise
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        told = f"{type(error).__name__}: {secrets.scrub(str(error))}"
        # With a secret in its text, the original error would show it in every traceback.
        cause = error if secrets.scrub(str(error)) == str(error) else None
        raise SourceUnavailableError(
            f"{source.function} raised {told}. Nothing was published. Correct the function or "
            "its `arguments`, then run again."
        ) from cause


def _function(path: str) -> Any:
    module_name, _, name = path.partition(":")
    try:
        found: Any = import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise DeclarationError(
            f"`function: {path}` cannot be imported: {error}. It must be importable in the "
            "environment that reads the source."
        ) from error
    if not callable(found):
        raise DeclarationError(f"`function: {path}` is a {type(found).__name__}, not a function")
    return found


def _batches(source: CallableSource, result: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(result, pa.RecordBatch):
        yield result
    elif hasattr(result, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(result)
        yield from reader
        yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    elif isinstance(result, Iterable) and not isinstance(result, str | bytes | dict):
        for item in result:
            if not isinstance(item, pa.RecordBatch | pa.Table):
                raise _not_rows(source, f"an iterable of {type(item).__name__}")
            yield from item.to_batches() if isinstance(item, pa.Table) else (item,)
    else:
        raise _not_rows(source, type(result).__name__)


def _not_rows(source: CallableSource, what: str) -> DeclarationError:
    return DeclarationError(
        f"{source.function} returned {what}; return an Arrow table or stream, an iterable of "
        "Arrow record batches, or a pandas or Polars frame"
    )
