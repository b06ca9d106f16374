"""Switches over who answers: set by people, and by the test that stops a canary.

They live in one file that workers watch. What is declared in YAML holds until somebody switches it;
a canary that was stopped because it was worse stays stopped for that challenger, through restarts
and roll-backs, until somebody starts it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from mlops_assets.declaration import Declared
from mlops_assets.serving.routing.contest import Contest
from mlops_assets.serving.routing.errors import TrafficError
from mlops_assets.serving.routing.sequential import Verdict
from mlops_assets.serving.security.state_file import (
    StateFileError,
    read_text,
    replace_text,
    sole_writer,
)
from mlops_assets.training.family_serving import CanaryDeclaration

FILE = "traffic.json"
MOST_SHARE = 0.5

_DECLARED = "declared"
_KEPT_VERDICTS = 50


class Switch(Declared):
    """Something was switched on or off by hand.

    Attributes
    ----------
    on
        What it is now.
    by, at, reason
        Who did it, when and why.
    """

    on: bool
    by: str
    at: AwareDatetime
    reason: str = ""

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"switched {'on' if self.on else 'off'} by {self.by} on {self.at:%F %R}Z{why}"


class CanarySwitch(Switch):
    """A canary was started or stopped by hand.

    Attributes
    ----------
    share
        Of the entities; as declared if not given.
    """

    share: float | None = Field(default=None, gt=0, le=MOST_SHARE)


class CanaryVerdict(Declared):
    """What the test said in the end.

    Attributes
    ----------
    challenger, champion
        Versions that were compared.
    epoch
        Of the experiment: since when, or that it was declared.
    verdict
        `stop_worse` or `done`.
    reason
        With the numbers.
    at
        When.
    reported
        Whether the event of it was reported.
    """

    challenger: int
    champion: int
    epoch: str
    verdict: Literal["stop_worse", "done"]
    reason: str
    at: AwareDatetime
    reported: bool = False


class FamilyTraffic(Declared):
    """Switches of one family; none of them until somebody sets it."""

    shadow: Switch | None = None
    canary: CanarySwitch | None = None
    verdicts: tuple[CanaryVerdict, ...] = ()


class TrafficFile(Declared):
    """What the file of switches holds."""

    format: Literal[1] = 1
    families: dict[str, FamilyTraffic] = Field(default_factory=dict)

    def of(self, family: str) -> FamilyTraffic:
        """Return the switches of a family."""
        return self.families.get(family, _NOTHING_SWITCHED)


_NOTHING_SWITCHED = FamilyTraffic()


@dataclass(frozen=True)
class Experiment:
    """One canary: which versions are compared, by which rules. Its counts are its own.

    Attributes
    ----------
    family
        Whose.
    champion, challenger
        Versions.
    epoch
        Since when, where somebody started it; else that it was declared.
    rules
        As declared, with the share that holds.
    """

    family: str
    champion: int
    challenger: int
    epoch: str
    rules: CanaryDeclaration

    @property
    def name(self) -> str:
        """Unique among the experiments of its family; fit for a folder."""
        share = f"{self.rules.share:g}".replace(".", "_")
        return f"{self.challenger}-against-{self.champion}-share-{share}-{self.epoch}"


@dataclass(frozen=True)
class Plan:
    """What holds for a family's requests now.

    Attributes
    ----------
    shadow
        Whether the challenger is asked everything too.
    canary
        The experiment that runs; None if none does.
    shadow_why, canary_why
        Why, for people.
    """

    shadow: bool
    canary: Experiment | None
    shadow_why: str
    canary_why: str


def plan(contest: Contest, traffic: FamilyTraffic) -> Plan:
    """Say what holds, from what is deployed, declared and switched."""
    shadow, shadow_why = contest.serving.shadow, "as declared"
    if traffic.shadow is not None:
        shadow, shadow_why = traffic.shadow.on, str(traffic.shadow)
    if shadow and contest.challenger is None:
        shadow, shadow_why = False, "there is no challenger"
    canary, canary_why = _canary(contest, traffic)
    return Plan(shadow, canary, shadow_why, canary_why)


def _canary(contest: Contest, traffic: FamilyTraffic) -> tuple[Experiment | None, str]:
    switch, declared = traffic.canary, contest.serving.canary
    if switch is None and declared is None:
        return None, "none is declared or started"
    if switch is not None and not switch.on:
        return None, str(switch)
    if contest.challenger is None:
        return None, "there is no challenger"
    rules = declared or CanaryDeclaration()
    epoch, why = _DECLARED, "as declared"
    if switch is not None:
        epoch, why = f"{switch.at:%Y%m%dT%H%M%S%f}", str(switch)
        if switch.share is not None:
            rules = rules.model_copy(update={"share": switch.share})
    for verdict in traffic.verdicts:
        is_stop = verdict.verdict == Verdict.stop_worse
        if is_stop and (verdict.challenger, verdict.epoch) == (contest.challenger, epoch):
            return None, f"stopped on {verdict.at:%F %R}Z: {verdict.reason}"
    return Experiment(contest.family, contest.champion, contest.challenger, epoch, rules), why


def read_traffic(path: Path) -> TrafficFile:
    """Read the file of switches; nothing is switched where there is none.

    Raises
    ------
    StateFileError
        When it cannot be read or trusted, or is no such file.
    """
    text = read_text(path)
    if text is None:
        return TrafficFile()
    try:
        return TrafficFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise StateFileError(
            f"{path} holds no switches of traffic: {place}: {first['msg']}. Restore it, or remove "
            "it: what is declared holds then, and stopped canaries run again"
        ) from error


class TrafficStore:
    """The file of switches, changed by one process at a time.

    Parameters
    ----------
    path
        The file; made with the first switch.
    now
        The present moment, with a time zone.
    """

    def __init__(
        self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = path
        self._now = now

    def read(self) -> TrafficFile:
        """Return all switches.

        Raises
        ------
        StateFileError
            When the file cannot be read or trusted.
        """
        return read_traffic(self.path)

    def switch_shadow(self, family: str, *, on: bool, by: str, reason: str = "") -> Switch:
        """Have the challenger asked everything too, or not."""
        switch = Switch(on=on, by=by, at=self._now(), reason=reason)
        self._change(family, lambda found: found.model_copy(update={"shadow": switch}))
        return switch

    def start_canary(
        self, family: str, *, by: str, share: float | None = None, reason: str = ""
    ) -> CanarySwitch:
        """Begin a new experiment, also after one that was stopped.

        Raises
        ------
        TrafficError
            When the share is none of more than nothing and at most half.
        """
        if share is not None and not 0 < share <= MOST_SHARE:
            raise TrafficError(f"a canary's share of {share:g} must be above 0 and at most 0.5")
        switch = CanarySwitch(on=True, by=by, at=self._now(), reason=reason, share=share)
        self._change(family, lambda found: found.model_copy(update={"canary": switch}))
        return switch

    def stop_canary(self, family: str, *, by: str, reason: str = "") -> CanarySwitch:
        """Have the champion answer everything, whatever is declared."""
        switch = CanarySwitch(on=False, by=by, at=self._now(), reason=reason)
        self._change(family, lambda found: found.model_copy(update={"canary": switch}))
        return switch

    def conclude(self, experiment: Experiment, verdict: Verdict, reason: str) -> bool:
        """Keep the verdict on an experiment, which stops it if it is worse.

        Returns
        -------
        bool
            Whether it is new. The first verdict of a kind stands.
        """
        concluded = CanaryVerdict(
            challenger=experiment.challenger,
            champion=experiment.champion,
            epoch=experiment.epoch,
            verdict=verdict.value,
            reason=reason,
            at=self._now(),
        )
        is_new = True

        def add(found: FamilyTraffic) -> FamilyTraffic:
            nonlocal is_new
            is_new = not any(_identity(v) == _identity(concluded) for v in found.verdicts)
            if not is_new:
                return found
            kept = (*found.verdicts, concluded)[-_KEPT_VERDICTS:]
            return found.model_copy(update={"verdicts": kept})

        self._change(experiment.family, add)
        return is_new

    def mark_reported(self, family: str, verdict: CanaryVerdict) -> None:
        """Remember that a verdict's event was reported."""

        def mark(found: FamilyTraffic) -> FamilyTraffic:
            marked = tuple(
                v.model_copy(update={"reported": True}) if _identity(v) == _identity(verdict) else v
                for v in found.verdicts
            )
            return found.model_copy(update={"verdicts": marked})

        self._change(family, mark)

    def _change(self, family: str, change: Callable[[FamilyTraffic], FamilyTraffic]) -> None:
        with sole_writer(self.path):
            found = self.read()
            before = found.of(family)
            after = change(before)
            if after is before:
                return
            changed = TrafficFile(families={**found.families, family: after})
            replace_text(self.path, changed.model_dump_json(indent=1) + "\n")


def _identity(verdict: CanaryVerdict) -> tuple[int, int, str, str]:
    return verdict.challenger, verdict.champion, verdict.epoch, verdict.verdict
