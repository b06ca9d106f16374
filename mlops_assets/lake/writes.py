"""Writing: each function here prepares one kind of change and commits it in one piece.

A commit that loses a race against another writer is tried again on the table as it is then, with
the same rows, a bounded number of times. Until the commit stands, readers see the old version.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
from deltalake import DeltaTable, PostCommitHookProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from mlops_assets.lake.batches import Batches, CheckedStream, Data, RowCheck
from mlops_assets.lake.commits import Commit, commits, is_applied, properties
from mlops_assets.lake.errors import (
    ConcurrentWriteError,
    InvalidRowsError,
    LakeError,
    TableExistsError,
    from_storage,
)
from mlops_assets.lake.names import TableName
from mlops_assets.lake.schemas import (
    aligned,
    merged_comments,
    quoted,
    storable,
    widened,
)
from mlops_assets.lake.sessions import private_session
from mlops_assets.lake.storage import Storage
from mlops_assets.lake.window import Window
from mlops_assets.settings import DuckDBLimits

# Old versions are what models pin and what `restore` needs: only `vacuum` may forget them.
PROPERTIES = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
}
HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_ATTEMPTS = 20
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 2.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Write:
    """What every write needs to know.

    Attributes
    ----------
    storage, name
        Which table, and where.
    limits
        Of the DuckDB session that a check may need, and the scratch folder.
    metadata
        Recorded with the commit.
    allow_schema_change
        Whether the batch may change the columns.
    description
        Of the table; None leaves it as it is.
    """

    storage: Storage
    name: TableName
    limits: DuckDBLimits
    metadata: Mapping[str, Any] = field(default_factory=dict)
    allow_schema_change: bool = False
    description: str | None = None

    @property
    def uri(self) -> str:
        """Where the table lies."""
        return self.storage.uri(self.name)

    def create(self, schema: pa.Schema) -> Commit:
        """Create an empty table."""
        exists = TableExistsError(f"{self.name} exists already, at {self.uri}.")
        if self.storage.exists(self.name):
            raise exists
        try:
            with self._translated("create"):
                table = DeltaTable.create(
                    self.uri,
                    storable(schema),
                    description=self.description,
                    configuration=PROPERTIES,
                    storage_options=dict(self.storage.options),
                    commit_properties=properties(self.metadata, exclusive=True),
                )
        except DeltaError as error:  # only conflicts come through `_translated`
            raise exists from error
        return commits(table, 1)[0]

    def overwrite(self, data: Data) -> Commit:
        """Replace all rows."""
        with Batches(data, self.limits.scratch) as batches:

            def attempt(table: DeltaTable | None) -> Commit:
                if table is None:
                    return self._create_with(batches)
                stored = stored_schema(table)
                if self.allow_schema_change:
                    target = batches.schema
                else:
                    target = aligned(stored, batches.schema, table=str(self.name))
                target = merged_comments(target, batches.schema, stored)
                changed = not target.equals(stored, check_metadata=True)
                self._describe(table)
                return self._write(
                    batches,
                    table,
                    target,
                    # without a predicate, delta-rs lets rows of a concurrent writer survive
                    exclusive=True,
                    mode="overwrite",
                    schema_mode="overwrite" if changed else None,
                )

            return self._committed(attempt)

    def overwrite_window(self, data: Data, window: Window) -> Commit:
        """Replace the rows of one window."""
        with Batches(data, self.limits.scratch) as batches:

            def attempt(table: DeltaTable | None) -> Commit:
                if table is None:
                    return self._create_with(batches, window=window.fitted_to(batches.schema))
                target = self._target(table, batches)
                fitted = window.fitted_to(target)
                return self._write(
                    batches,
                    table,
                    target,
                    window=fitted,
                    mode="overwrite",
                    predicate=fitted.sql,
                    schema_mode="merge" if len(target) > len(stored_schema(table)) else None,
                )

            return self._committed(attempt)

    def append(self, data: Data, transaction: tuple[str, int] | None) -> Commit | None:
        """Add rows, unless the transaction has been applied already."""
        with Batches(data, self.limits.scratch) as batches:

            def attempt(table: DeltaTable | None) -> Commit | None:
                if table is None:
                    return self._create_with(batches, transaction=transaction)
                if transaction is not None and is_applied(table, transaction):
                    return None
                target = self._target(table, batches)
                return self._write(
                    batches,
                    table,
                    target,
                    transaction=transaction,
                    mode="append",
                    schema_mode="merge" if len(target) > len(stored_schema(table)) else None,
                )

            return self._committed(attempt)

    def merge(self, data: Data, keys: Sequence[str]) -> Commit:
        """Update the rows whose keys are there, insert the others."""
        if not keys:
            raise LakeError(f"A merge into {self.name} needs at least one key column.")
        with Batches(data, self.limits.scratch) as batches:
            absent = [key for key in keys if key not in batches.schema.names]
            if absent:
                raise InvalidRowsError(
                    f"{self.name}: the rows to merge have no key column {', '.join(absent)}. "
                    f"Columns: {', '.join(batches.schema.names)}."
                )
            required = dict.fromkeys(keys, "is a key of the merge")
            self._refuse_duplicates(batches, keys, required)

            def attempt(table: DeltaTable | None) -> Commit:
                if table is None:
                    return self._create_with(batches, required=required)
                target = self._target(table, batches)
                stream = self._stream(batches, target, required=required)
                with self._translated("merge into", stream):
                    table.merge(
                        stream,
                        predicate=" AND ".join(
                            f"stored.{quoted(key)} = given.{quoted(key)}" for key in keys
                        ),
                        source_alias="given",
                        target_alias="stored",
                        merge_schema=len(target) > len(stored_schema(table)),
                        commit_properties=properties(self.metadata),
                        post_commithook_properties=HOOKS,
                    ).when_matched_update_all().when_not_matched_insert_all().execute()
                return commits(table, 1)[0]

            return self._committed(attempt)

    def change(self, what: str, action: Callable[[DeltaTable], object]) -> Commit | None:
        """Run an action that commits through the table handle; None where it committed nothing."""

        def attempt(table: DeltaTable | None) -> Commit | None:
            opened = table if table is not None else self.storage.open(self.name)
            before = opened.version()
            with self._translated(what):
                action(opened)
            return None if opened.version() == before else commits(opened, 1)[0]

        return self._committed(attempt)

    def _target(self, table: DeltaTable, batches: Batches) -> pa.Schema:
        fit = widened if self.allow_schema_change else aligned
        return fit(stored_schema(table), batches.schema, table=str(self.name))

    def _describe(self, table: DeltaTable) -> None:
        if self.description is not None and self.description != table.metadata().description:
            with self._translated("describe"):
                table.alter.set_table_description(self.description)

    def _create_with(
        self,
        batches: Batches,
        *,
        window: Window | None = None,
        required: Mapping[str, str] | None = None,
        transaction: tuple[str, int] | None = None,
    ) -> Commit:
        """Create the table and its first rows in one commit."""
        return self._write(
            batches,
            None,
            batches.schema,
            window=window,
            required=required,
            transaction=transaction,
            exclusive=True,  # else delta-rs would add a second creation to the first
            mode="error",
            description=self.description,
            configuration=PROPERTIES,
        )

    def _write(
        self,
        batches: Batches,
        table: DeltaTable | None,
        target: pa.Schema,
        *,
        window: Window | None = None,
        required: Mapping[str, str] | None = None,
        transaction: tuple[str, int] | None = None,
        exclusive: bool = False,
        **options: Any,
    ) -> Commit:
        stream = self._stream(batches, target, window=window, required=required)
        with self._translated("write", stream):
            write_deltalake(
                self.uri if table is None else table,
                stream,
                storage_options=dict(self.storage.options),
                commit_properties=properties(self.metadata, transaction, exclusive=exclusive),
                post_commithook_properties=HOOKS,
                **options,
            )
        written = table if table is not None else self.storage.open(self.name, 0)
        return commits(written, 1)[0]

    def _stream(
        self,
        batches: Batches,
        target: pa.Schema,
        *,
        window: Window | None = None,
        required: Mapping[str, str] | None = None,
    ) -> CheckedStream:
        rules = {column.name: "must not be null" for column in target if not column.nullable}
        return batches.stream(
            target, RowCheck(str(self.name), window, {**rules, **(required or {})})
        )

    def _refuse_duplicates(
        self, batches: Batches, keys: Sequence[str], required: Mapping[str, str]
    ) -> None:
        stream = self._stream(batches, batches.schema, required=required)
        columns = ", ".join(quoted(key) for key in keys)
        with private_session(self.limits) as con, self._translated("merge into", stream):
            con.register("given", stream)
            found = con.execute(
                f"SELECT {columns}, count(*) FROM given GROUP BY ALL HAVING count(*) > 1 LIMIT 3"
            ).fetchall()
        if found:
            examples = "; ".join(
                ", ".join(f"{key}={value!r}" for key, value in zip(keys, row, strict=False))
                for row in found
            )
            raise InvalidRowsError(
                f"{self.name}: the rows to merge have the same key more than once, for example "
                f"{examples}. Nothing was written. Keep one row for each key."
            )

    @contextmanager
    def _translated(self, what: str, stream: CheckedStream | None = None) -> Iterator[None]:
        """Raise what was wrong with the rows, else our error for theirs; let conflicts pass."""
        try:
            yield
        except Exception as error:
            if stream is not None and stream.error is not None:
                raise stream.error from None
            if isinstance(error, CommitFailedError) or _is_creation_race(error):
                raise
            if isinstance(error, DeltaError | OSError):
                raise from_storage(error, f"{what} {self.name}", self.uri) from error
            raise

    def _committed(self, attempt: Callable[[DeltaTable | None], Result]) -> Result:
        pause = _FIRST_PAUSE_S
        for _ in range(_ATTEMPTS):
            try:
                return attempt(self.storage.find(self.name))
            except DeltaError as error:  # only conflicts come through `_translated`
                conflict = error
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads writers, no secret
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        raise ConcurrentWriteError(
            f"{self.name}: other writers committed first {_ATTEMPTS} times; nothing was written. "
            f"Last conflict: {conflict}. Run it again when they are done."
        ) from conflict


def stored_schema(table: DeltaTable) -> pa.Schema:
    """Return a table's columns with their comments."""
    return storable(pa.schema(table.schema().to_arrow()))


def _is_creation_race(error: Exception) -> bool:
    return isinstance(error, DeltaError) and "already exists" in str(error)
