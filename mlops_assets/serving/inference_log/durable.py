"""Making a commit survive the loss of power, before what it was made of is removed.

delta-rs leaves its files to the kernel, which may write them half a minute later.
"""

import json
import os
from pathlib import Path
from urllib.parse import unquote

from mlops_assets.lake import Commit, Lake, TableName

_NEWEST = 100


def make_durable(
    lake: Lake, table: TableName, commit: Commit | None, transaction: tuple[str, int]
) -> None:
    """Sync the files of an append.

    Parameters
    ----------
    lake, table
        Where. An object store keeps what it has acknowledged, so nothing is to be done there.
    commit
        The append; None where one who was killed had made it.
    transaction
        What it was made under.
    """
    if "://" in lake.root:
        return
    commit = commit or _earlier(lake, table, transaction)
    if commit is None:
        os.sync()
        return
    root = Path(lake.uri(table))
    entry = root / "_delta_log" / f"{commit.version:020d}.json"
    actions = [json.loads(line) for line in entry.read_text("utf-8").splitlines()]
    files = [root / unquote(action["add"]["path"]) for action in actions if "add" in action]
    folders = {file.parent for file in files} | {entry.parent, root, root.parent}
    for path in [*files, entry, *folders]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _earlier(lake: Lake, table: TableName, transaction: tuple[str, int]) -> Commit | None:
    """Find the commit of a transaction, among the newest."""
    for commit in lake.history(table, _NEWEST):
        if commit.metadata.get("transaction") == list(transaction):
            return commit
    return None
