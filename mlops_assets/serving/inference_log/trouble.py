"""A time in which the log could not be written, and what is said of it afterwards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mlops_assets.serving.inference_log.answered import Answered
from mlops_assets.serving.inference_log.events import Event, EventKind


@dataclass
class Gap:
    """Answers of one model that left without being logged.

    Attributes
    ----------
    rows
        How many.
    since, until
        When the first and the last of them were answered, in microseconds since 1970 in UTC.
    """

    rows: int
    since: int
    until: int


@dataclass
class Trouble:
    """What is known of a time in which nothing could be written, while it lasts.

    Attributes
    ----------
    since
        When it began, in microseconds since 1970 in UTC.
    gaps
        What was answered meanwhile, by family and version.
    """

    since: int
    gaps: dict[tuple[str, int], Gap] = field(default_factory=dict)

    def missed(self, answered: Sequence[Answered]) -> int:
        """Count answers that left without being logged, and return their rows."""
        rows = 0
        for one in answered:
            count, at = len(one.answers), one.answered_at
            gap = self.gaps.setdefault((one.family, one.version), Gap(0, at, at))
            gap.rows += count
            gap.since, gap.until = min(gap.since, at), max(gap.until, at)
            rows += count
        return rows

    def ended(self, now: int) -> Iterator[Event]:
        """Yield what there is to say once the log can be written again."""
        for (family, version), gap in self.gaps.items():
            yield Event(
                EventKind.log_gap,
                f"{gap.rows} predictions of {family}/{version} were answered and are not in the "
                "inference log, because it could not be written",
                family=family,
                version=version,
                at=gap.until,
                since=gap.since,
                rows=gap.rows,
            )
        seconds = (now - self.since) / 1e6
        yield Event(
            EventKind.log_recovered,
            f"The inference log can be written again, after {seconds:.1f} s",
            at=now,
            since=self.since,
            rows=sum(gap.rows for gap in self.gaps.values()),
        )
