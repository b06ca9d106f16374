"""What Prometheus may scrape of the server, over all of its worker processes.

Counters and histograms add up over the workers through files that `prometheus_client` maps into
memory; a worker that died keeps what it counted.
"""

import os
import resource
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
)  # fmt: skip
_GAUGES: tuple[tuple[str, str, Literal["livesum", "livemax", "liveall"]], ...] = (
    ("requests_in_flight", "Requests being answered now.", "livesum"),
    ("shadow_waiting_rows", "Rows waiting for the challenger.", "livesum"),
    ("log_full", "Workers whose inference log cannot be written.", "livesum"),
    ("log_unsynced_seconds", "Age of the oldest record not yet synced.", "livemax"),
    ("worker_cpu_seconds", "CPU seconds of each worker.", "liveall"),
    ("worker_resident_bytes", "Memory of each worker.", "liveall"),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 16384, 131072)


_Count = Callable[[tuple[str, ...], list[tuple[float, ...]]], None]

_MOST_NOTED = 512
_NOTED_SECONDS = 0.2
"""Counting is put off until there is so much of it, or so long, and then done at one go, the same
things together. What a worker has noted and has not counted when it is killed is lost."""


def prepare_folder(folder: Path) -> None:
    """Make an empty folder for the numbers of a new server, and name it to its processes.

    The library looks for the variable when it is imported, so this comes first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[FOLDER_VARIABLE] = str(folder)


class ServerMetrics:
    """The numbers of one worker."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        from mlops_assets.serving.histograms import BulkHistogram

        own = self._own = CollectorRegistry()
        self._requests = Counter(
            "mlops_requests", "Requests by route and status.", ("route", "status"), registry=own
        )
        self._seconds = BulkHistogram(
            "mlops_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=own,
        )
        self._rows = Counter(
            "mlops_predictions", "Rows answered.", ("family", "version", "role"), registry=own
        )
        self._batch_rows = BulkHistogram(
            "mlops_model_call_rows",
            "Rows in each call of a model.",
            ("family",),
            buckets=_ROWS,
            registry=own,
        )
        self._model_seconds = BulkHistogram(
            "mlops_model_call_seconds",
            "Seconds of each call of a model.",
            ("family", "version"),
            buckets=_SECONDS,
            registry=own,
        )
        self._dropped = Counter(
            "mlops_shadow_dropped",
            "Rows that the challenger was not asked, because it was behind.",
            ("family",),
            registry=own,
        )
        self._missed = Gauge(
            "mlops_log_missed_rows",
            "Rows answered without being in the inference log.",
            multiprocess_mode="sum",
            registry=own,
        )
        self._gauges = {
            name: Gauge(f"mlops_{name}", text, multiprocess_mode=mode, registry=own)
            for name, text, mode in _GAUGES
        }
        self._serving = Gauge(
            "mlops_serving",
            "Workers that serve a version in a role.",
            ("family", "version", "role"),
            multiprocess_mode="livesum",
            registry=own,
        )
        self._shown: set[tuple[str, str, str]] = set()
        # Appended to by threads too; emptied by the event loop's alone.
        self._noted: deque[tuple[_Count, tuple[str, ...], tuple[float, ...]]] = deque()
        self._counted_at = 0.0

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._noted.append((self._count_requests, (route, str(int(status))), (seconds,)))
        now = time.monotonic()
        if len(self._noted) >= _MOST_NOTED or now - self._counted_at >= _NOTED_SECONDS:
            self._counted_at = now
            self.count()

    def predicted(self, family: str, version: int, role: str, rows: int) -> None:
        """Count rows that were answered."""
        self._noted.append((self._count_rows, (family, str(version), role), (rows,)))

    def called(self, family: str, version: int, rows: int, seconds: float) -> None:
        """Count a call of a model."""
        self._noted.append((self._count_calls, (family, str(version)), (rows, seconds)))

    def count(self) -> None:
        """Count what was noted since the last time; for the event loop's thread."""
        alike: dict[tuple[_Count, tuple[str, ...]], list[tuple[float, ...]]] = {}
        while self._noted:
            count, labels, values = self._noted.popleft()
            alike.setdefault((count, labels), []).append(values)
        for (count, labels), each in alike.items():
            count(labels, each)

    def _count_requests(self, labels: tuple[str, ...], each: list[tuple[float, ...]]) -> None:
        route, status = labels
        self._requests.labels(route, status).inc(len(each))
        self._seconds.labels(route).observe_all([seconds for (seconds,) in each])

    def _count_rows(self, labels: tuple[str, ...], each: list[tuple[float, ...]]) -> None:
        self._rows.labels(*labels).inc(sum(rows for (rows,) in each))

    def _count_calls(self, labels: tuple[str, ...], each: list[tuple[float, ...]]) -> None:
        family, version = labels
        self._batch_rows.labels(family).observe_all([rows for rows, _ in each])
        self._model_seconds.labels(family, version).observe_all([seconds for _, seconds in each])

    def dropped(self, family: str, rows: int) -> None:
        """Count rows that the challenger was not asked."""
        self._dropped.labels(family).inc(rows)

    def missed(self, rows: int) -> None:
        """Set how many rows the inference log lacks."""
        self._missed.set(rows)

    def now(self, **values: float) -> None:
        """Set what is true at this moment, and what this process uses."""
        self.count()
        used = resource.getrusage(resource.RUSAGE_SELF)
        measured = {
            "worker_cpu_seconds": used.ru_utime + used.ru_stime,
            "worker_resident_bytes": _resident_bytes(),
            **values,
        }
        for name, value in measured.items():
            self._gauges[name].set(value)

    def serving(self, versions: dict[tuple[str, str], int]) -> None:
        """Set which version serves in which family and role."""
        now = {(family, str(version), role) for (family, role), version in versions.items()}
        for labels in self._shown - now:  # a shared file has no place to forget a label in
            self._serving.labels(*labels).set(0)
        for labels in now:
            self._serving.labels(*labels).set(1)
        self._shown |= now

    def exposition(self) -> tuple[bytes, str]:
        """Return the numbers of all workers as Prometheus reads them, and their content type.

        A worker that runs without a supervisor gives its own.
        """
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        folder = os.environ.get(FOLDER_VARIABLE)
        if folder is None:
            return generate_latest(self._own), CONTENT_TYPE_LATEST
        _forget_dead_workers(Path(folder))
        every = CollectorRegistry()
        MultiProcessCollector(every)  # type: ignore[no-untyped-call] # the library's
        return generate_latest(every), CONTENT_TYPE_LATEST


def _forget_dead_workers(folder: Path) -> None:
    """Remove what dead workers said of themselves; what they counted stays."""
    for path in folder.glob("gauge_live*_*.db"):
        if not Path("/proc", path.stem.rpartition("_")[2]).exists():
            path.unlink(missing_ok=True)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
