"""Watching a family day by day: the job that does it, and the sensor that sees new days.

The sensor compares the days that the spine's table has with those that were evaluated, and asks for
one run over a range of days at a time. What it has asked for is in its cursor.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from typing import Self

import dagster as dg

from mlops_assets.features.identifiers import quote
from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration.daily import Days
from mlops_assets.orchestration.model_family.retraining import (
    UNFINISHED,
    gate_decided,
    training_job_name,
)
from mlops_assets.orchestration.model_family.steps import key_of
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.running import RANGE_END, RANGE_START
from mlops_assets.training.family import ModelFamily


def monitoring_job_name(family: ModelFamily) -> str:
    """Return the name of the job that watches a family."""
    return f"monitor_{family.name}"


def watching_defs(
    family: ModelFamily, days: Days, assets: Sequence[dg.AssetsDefinition]
) -> dg.Definitions:
    """Give the job that predicts and evaluates days, and the sensor that starts it for new ones.

    Parameters
    ----------
    family
        The declaration.
    days
        That its predictions are partitioned by.
    assets
        Predictions, drift, performance and decision.
    """
    job = dg.define_asset_job(
        monitoring_job_name(family),
        selection=dg.AssetSelection.assets(*assets),
        description=f"Answer and evaluate days of {family.name}, and decide whether to train it "
        "again.",
        tags={"mlops/family": family.name},
    )
    return dg.Definitions(assets=assets, jobs=[job], sensors=[_sensor(family, days)])


@dataclass(frozen=True)
class _Seen:
    """What the sensor knows.

    Attributes
    ----------
    spine, champion, newest
        Version of the spine's table, when the champion was decided on, and the last day that was
        over: while they stay, there is nothing new.
    asked
        First and last days that were asked for since.
    settled
        Whether nothing more is to be asked for.
    """

    spine: int = -1
    champion: float = 0.0
    newest: str = ""
    asked: tuple[tuple[str, str], ...] = field(default=())
    settled: bool = False

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        if not cursor:
            return cls()
        found = json.loads(cursor)
        return cls(**{**found, "asked": tuple(tuple(pair) for pair in found["asked"])})

    def since(self, spine: int, champion: float, newest: date) -> Self:
        """Return what is known now; what was asked for counts only while nothing has changed."""
        now = replace(self, spine=spine, champion=champion, newest=newest.isoformat())
        return self if now == self else replace(now, asked=(), settled=False)

    def has_asked(self, day: date) -> bool:
        return any(first <= day.isoformat() <= last for first, last in self.asked)


def _sensor(family: ModelFamily, days: Days) -> dg.SensorDefinition:
    champion = key_of(family, "champion")
    job_name = monitoring_job_name(family)
    spine = TableName.parse(family.spine.table)

    @dg.sensor(
        name=f"{family.name}_monitoring",
        job_name=job_name,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE_KEY},
        description=f"Has every new day of {spine} answered by the champion of {family.name}, and "
        "evaluated.",
    )
    def watching(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        decided = gate_decided(context.instance, family)
        if decided is None:
            return dg.SensorResult(
                skip_reason=f"{champion.to_user_string()} was never materialised, so nothing can "
                f"answer; run the job {training_job_name(family)} once"
            )
        lake = platform.lake
        if not lake.exists(spine):
            return dg.SensorResult(skip_reason=f"there is no {spine} yet; materialise it")
        running = dg.RunsFilter(job_name=job_name, statuses=UNFINISHED)
        if found := context.instance.get_run_ids(running, limit=1):
            return dg.SensorResult(skip_reason=f"run {found[0]} evaluates days")
        over = _now() - timedelta(hours=12)
        newest = days.newest_complete(over)
        if newest is None:
            return dg.SensorResult(skip_reason=f"no day from {days.start} on is over yet")
        start = max(days.start, (over - family.monitoring.look_back).date())
        if newest < start:
            return dg.SensorResult(
                skip_reason=f"the last day, {newest}, was before {start}; what is that old is "
                f"evaluated by hand: backfill {key_of(family, 'drift').to_user_string()} and what "
                "is made with it"
            )
        seen = _Seen.of(context.cursor).since(lake.version(spine), decided, newest)
        if seen.settled:
            return dg.SensorResult(
                skip_reason=f"nothing new: version {seen.spine} of {spine}, days until {newest}"
            )
        waiting = _unevaluated(lake, family, start, newest)
        stretch = _first_stretch([day for day in waiting if not seen.has_asked(day)])
        if not stretch:
            said = f"the days of {spine} from {start} to {newest} are evaluated"
            if waiting:
                said = (
                    f"{len(waiting)} days from {waiting[0]} on were asked for and are not "
                    f"evaluated: see the last run of {job_name}"
                )
            return dg.SensorResult(skip_reason=said, cursor=_cursor(replace(seen, settled=True)))
        first, last = stretch[0].isoformat(), stretch[-1].isoformat()
        reason = f"{spine} has {len(stretch)} days that were not evaluated: {first} to {last}"
        context.log.info(reason)
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    # The same whenever a tick is repeated: a run that failed is followed by another
                    # when there is a new day, a new version of the table, or a new champion.
                    run_key=f"{family.name}:{first}:{last}:{newest}:{seen.spine}:{seen.champion}",
                    tags={
                        RANGE_START: first,
                        RANGE_END: last,
                        "mlops/family": family.name,
                        "mlops/reason": reason,
                    },
                )
            ],
            cursor=_cursor(replace(seen, asked=(*seen.asked, (first, last)))),
        )

    return watching


def _cursor(seen: _Seen) -> str:
    return json.dumps(asdict(seen))


def _unevaluated(lake: Lake, family: ModelFamily, start: date, newest: date) -> list[date]:
    """Return which of these days of the spine nobody has evaluated, in order."""
    from mlops_assets.monitoring.tables import DECISIONS

    spine = TableName.parse(family.spine.table)
    evaluated = [DECISIONS] if lake.exists(DECISIONS) else []
    with lake.connect(tables=[spine, *evaluated]) as con:
        there = con.execute(
            f"SELECT DISTINCT CAST({quote(family.split_column)} AS DATE) AS day FROM {spine.sql} "
            f"WHERE day BETWEEN $start AND $newest AND ({family.spine.filter or 'true'}) "
            "ORDER BY day",
            {"start": start, "newest": newest},
        ).fetchall()
        known = (
            con.execute(
                f"SELECT DISTINCT day FROM {DECISIONS.sql} WHERE family = $family",
                {"family": family.name},
            ).fetchall()
            if evaluated
            else []
        )
    return sorted({day for (day,) in there} - {day for (day,) in known})


def _first_stretch(days: Sequence[date]) -> list[date]:
    """Return the days from the first on that follow each other."""
    return [
        day
        for _, day in takewhile(
            lambda numbered: numbered[1] == days[0] + timedelta(days=numbered[0]), enumerate(days)
        )
    ]


def _now() -> datetime:
    return datetime.now(UTC)
