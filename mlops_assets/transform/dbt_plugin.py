"""The dbt-duckdb plugin that shows dbt every lake table as a view.

dbt-duckdb imports this module by name (see ``dbt_project/profiles.yml``) and calls
`Plugin.configure_connection` once for each database it opens. A build says which lake to show with
`showing`; dbt started by hand sees the lake of the current settings.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dbt.adapters.duckdb.plugins import BasePlugin
from duckdb import DuckDBPyConnection

from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import current_settings

# dbt opens its connection in a thread of its own, so a context variable would not reach it; and dbt
# itself allows one invocation a process, so one module-level value is enough.
_shown: tuple[Lake, Mapping[TableName, int]] | None = None


@contextmanager
def showing(lake: Lake, versions: Mapping[TableName, int] | None = None) -> Iterator[None]:
    """Let the dbt invocations inside the block see this lake.

    Parameters
    ----------
    lake
        Which.
    versions
        Tables that are to be seen as they were at a version; the others as they are.
    """
    global _shown  # noqa: PLW0603 - the plugin's constructor belongs to dbt-duckdb
    previous, _shown = _shown, (lake, versions or {})
    try:
        yield
    finally:
        _shown = previous


class Plugin(BasePlugin):
    """Makes a schema and a view for every lake table in dbt's DuckDB."""

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Create the views; called by dbt-duckdb when it opens the database."""
        lake, versions = _shown or (Lake.from_settings(current_settings()), {})
        lake.create_views(conn, versions=versions)
