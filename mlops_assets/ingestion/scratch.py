"""The private folder of one ingestion."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlops_assets.ingestion.copies import scratch_space
from mlops_assets.lake.scratch import private_folder


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give an empty folder below ``parent``, and remove it at the end.

    Raises
    ------
    ScratchError
        If the folder cannot be made.
    """
    with ExitStack() as stack:
        with scratch_space(parent):  # its error is of making the folder, not of what is done in it
            folder = stack.enter_context(private_folder(parent, "ingest-"))
        yield folder
