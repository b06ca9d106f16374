"""How the model server did, day by day, from the inference log."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

from mlops_assets.lake import Lake
from mlops_assets.monitoring.service_health import ServiceHealth, measure_service
from mlops_assets.monitoring.tables import MonitoringTables
from mlops_assets.serving.inference_log.tables import EVENTS, inference_table


def service_of_days(
    lake: Lake, family: str, last: date, days: int = 1
) -> Mapping[date, ServiceHealth]:
    """Measure whole days in UTC; none where there is no inference log.

    Parameters
    ----------
    lake, family
        Where the log is, and whose predictions.
    last, days
        The last day, and how many there are.
    """
    table = inference_table(family)
    if not lake.exists(table):
        return {}
    events = EVENTS if lake.exists(EVENTS) else None
    found = {}
    with lake.connect(tables=[table, *([events] if events else [])]) as con:
        for back in range(days - 1, -1, -1):
            day = last - timedelta(days=back)
            begins = datetime.combine(day, time(0), UTC)
            found[day] = measure_service(
                con,
                family,
                begins,
                begins + timedelta(days=1),
                log=table.sql,
                events=events.sql if events else None,
            )
    return found


def measure_days(
    lake: Lake, family: str, now: datetime, *, days: int, evaluation: str
) -> Mapping[date, ServiceHealth]:
    """Measure the last days, and write that of the last day that is over.

    Parameters
    ----------
    lake, family
        As for `service_of_days`.
    now
        Its day is the last; with a zone.
    days
        How many there are.
    evaluation
        Name under which it is written; the same one writes nothing twice.

    Returns
    -------
    mapping
        By day, today's up to now; empty where there is no inference log.
    """
    today = now.astimezone(UTC).date()
    found = service_of_days(lake, family, today, days)
    yesterday = today - timedelta(days=1)
    if yesterday in found:
        tables = MonitoringTables(lake, family, yesterday, evaluation, now)
        tables.write_service(found[yesterday])
    return found
