"""Running a job from this process, with a word about each asset as it is made."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import uuid4

import dagster as dg
from dagster import DagsterEventType, EventLogEntry

from mlops_assets.orchestration.instance import open_instance
from mlops_assets.settings import Settings

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class Progress:
    """Something that happened in a run.

    Attributes
    ----------
    kind
        ``started`` and ``finished`` name a step; ``made`` an asset; ``said`` a line of a step.
    subject
        The step or the asset, as ``schema/name``.
    rows
        Rows the asset's table now holds, where it is a table.
    """

    kind: str
    subject: str
    text: str = ""
    rows: int | None = None


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes
    ----------
    failures
        Step and message of each failed step.
    failed_checks
        Asset and name of each check that did not pass.
    """

    run_id: str
    success: bool
    assets: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]
    failed_checks: tuple[tuple[str, str], ...]


def run_job(
    defs: dg.Definitions,
    job_name: str,
    settings: Settings,
    *,
    days: tuple[date, date] | None = None,
    on_progress: Callable[[Progress], None],
) -> RunOutcome:
    """Execute a job in this process and record it in the deployment's Dagster instance.

    Parameters
    ----------
    days
        Half-open range of days for the partitioned assets, all in one run.
    on_progress
        Called in this thread as the run goes on.
    """
    tags = {}
    if days:
        last = date.fromordinal(days[1].toordinal() - 1)
        tags = {RANGE_START: days[0].isoformat(), RANGE_END: last.isoformat()}
    watcher = _Watcher(on_progress)
    run_id = str(uuid4())
    with open_instance(settings) as instance, _rare_garbage_collection():
        instance.add_event_listener(run_id, watcher)
        result = defs.resolve_job_def(job_name).execute_in_process(
            instance=instance,
            run_id=run_id,
            tags=tags,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    return watcher.outcome(run_id, success=result.success)


def assets_of_job(defs: dg.Definitions, job_name: str) -> int:
    """Count the assets that a job makes."""
    return len(defs.resolve_job_def(job_name).asset_layer.selected_asset_keys)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Look for cyclic garbage rarely, and not among what was loaded before.

    Libraries, definitions and dbt's manifest are millions of objects that stay, and Python walks
    them again and again: 6 of the 70 s of a run whose fits are short.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class _Watcher:
    """Turns the events of a run into progress, and remembers what the outcome needs."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._tell = on_progress
        self._assets: dict[str, int | None] = {}
        self._failures: list[tuple[str, str]] = []
        self._failed_checks: list[tuple[str, str]] = []

    def __call__(self, entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            if entry.step_key:
                self._tell(Progress("said", entry.step_key, text=entry.user_message))
            return
        step = event.step_key or ""
        match event.event_type:
            case DagsterEventType.STEP_START:
                self._tell(Progress("started", step))
            case DagsterEventType.STEP_SUCCESS:
                self._tell(Progress("finished", step))
            case DagsterEventType.STEP_FAILURE:
                error = event.step_failure_data.error
                cause = error.cause if error and error.cause else error
                self._failures.append((step, cause.message.strip() if cause else "failed"))
                self._tell(Progress("failed", step, text=self._failures[-1][1]))
            case DagsterEventType.ASSET_MATERIALIZATION:
                self._materialised(event.step_materialization_data.materialization)
            case DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if not check.passed:
                    self._failed_checks.append((check.asset_key.to_user_string(), check.check_name))

    def _materialised(self, materialization: dg.AssetMaterialization) -> None:
        """Tell of an asset once; a range of days gives an event for each day."""
        asset = materialization.asset_key.to_user_string()
        if asset not in self._assets:
            count = materialization.metadata.get("dagster/row_count")
            self._assets[asset] = count.value if isinstance(count, dg.IntMetadataValue) else None
            self._tell(Progress("made", asset, rows=self._assets[asset]))

    def outcome(self, run_id: str, *, success: bool) -> RunOutcome:
        return RunOutcome(
            run_id,
            success,
            tuple(self._assets),
            tuple(self._failures),
            tuple(self._failed_checks),
        )


def whole_range(defs: dg.Definitions) -> tuple[date, date] | None:
    """Return the half-open range of all days that the daily assets have; ``None`` without any."""
    days = {
        key
        for spec in defs.resolve_all_asset_specs()
        if isinstance(spec.partitions_def, dg.DailyPartitionsDefinition)
        for key in (
            spec.partitions_def.get_first_partition_key(),
            spec.partitions_def.get_last_partition_key(),
        )
        if key is not None
    }
    if not days:
        return None
    return date.fromisoformat(min(days)), date.fromisoformat(max(days)) + timedelta(days=1)
