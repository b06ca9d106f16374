"""Copying MLflow's store to another folder, so that the copy knows its own files.

MLflow remembers where the files of each run and model are, as absolute places.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

_PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def copy_store(source: Path, target: Path, artifacts: tuple[str, str]) -> None:
    """Copy a store's database, and have it name the place to which its files are copied.

    Parameters
    ----------
    source, target
        SQLite files; others may be writing into the source meanwhile.
    artifacts
        How the places of all files begin now, and how they are to begin in the copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as store,
        closing(sqlite3.connect(target)) as copy,
    ):
        store.backup(copy)
    mend_places(target, *artifacts)


def mend_places(store: Path, before: str, after: str) -> None:
    """Have a store name another place for the files of its runs and models.

    Parameters
    ----------
    store
        SQLite file.
    before, after
        How places begin now, and how they are to begin.
    """
    with closing(sqlite3.connect(store)) as opened, opened:
        for table, columns in _PLACES.items():
            for column in columns:
                opened.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, after)
                )


def copy_artifacts(source: Path, target: Path) -> None:
    """Copy the files of runs and models; none is no error, as of a store without a run."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
