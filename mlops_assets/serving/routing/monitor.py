"""The watch over running canaries: one process adds up the counts and stops what is worse."""

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_assets.serving.routing.contest import Contest
from mlops_assets.serving.routing.counts import Arm, ArmCounts, read_counts
from mlops_assets.serving.routing.router import FOLDER, counts_folder
from mlops_assets.serving.routing.sequential import Judgement, SequentialTest, Tally, Verdict
from mlops_assets.serving.routing.traffic import (
    FILE,
    CanaryVerdict,
    Experiment,
    TrafficStore,
    plan,
)
from mlops_assets.serving.security.state_file import Report

_KEPT_SECONDS = 86_400


@dataclass(frozen=True)
class CanaryState:
    """How a canary stands.

    Attributes
    ----------
    experiment
        Which one.
    counts
        What the arms have seen.
    failures
        What the test says of failures.
    losses
        What it says of losses; None where these do not matter.
    """

    experiment: Experiment
    counts: Mapping[Arm, ArmCounts]
    failures: Judgement
    losses: Judgement | None

    @property
    def verdict(self) -> Verdict:
        """`stop_worse` as soon as one test says so, `done` when all do."""
        said = {self.failures.verdict} | ({self.losses.verdict} if self.losses else set())
        if Verdict.stop_worse in said:
            return Verdict.stop_worse
        return Verdict.done if said == {Verdict.done} else Verdict.go_on

    @property
    def reason(self) -> str:
        """The numbers behind it, for people."""
        seen = {arm: counts.failures for arm, counts in self.counts.items()}
        failures = _compared("failed", seen, ".2%", self.failures)
        if self.losses is None:
            return failures
        seen = {arm: counts.losses for arm, counts in self.counts.items()}
        return f"{failures}; {_compared('mean loss', seen, '.4f', self.losses)}"


def canary_state(folder: Path, experiment: Experiment) -> CanaryState:
    """Add up the counts of an experiment and judge them.

    Parameters
    ----------
    folder
        The server's.
    experiment
        One that runs, or did.
    """
    rules = experiment.rules
    counts = read_counts(counts_folder(folder, experiment))
    champion, canary = counts[Arm.champion], counts[Arm.canary]
    # Two tests that may each stop it share the probability of a false alarm (Bonferroni).
    alpha = rules.alpha if rules.max_loss_increase is None else rules.alpha / 2
    failures = SequentialTest(rules.max_failure_increase, alpha, rules.minimum_requests)
    losses = None
    if rules.max_loss_increase is not None:
        test = SequentialTest(rules.max_loss_increase, alpha, rules.minimum_requests)
        losses = test.judge(champion.losses, canary.losses)
    return CanaryState(
        experiment, counts, failures.judge(champion.failures, canary.failures), losses
    )


class CanaryMonitor:
    """Looks at every running canary and keeps what the test says of it.

    Parameters
    ----------
    folder
        The server's.
    report
        Is told once of every verdict, as ``canary_stopped`` or ``canary_done``; twice only if the
        process died in between.
    """

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._store = TrafficStore(folder / FILE)
        self._report = report

    def look(self, contests: Iterable[Contest]) -> tuple[CanaryState, ...]:
        """Look once, at what runs of the families that are deployed.

        Raises
        ------
        StateFileError
            When the switches cannot be read or changed; a canary then runs on.
        """
        traffic = self._store.read()
        states = []
        for contest in contests:
            experiment = plan(contest, traffic.of(contest.family)).canary
            if experiment is not None:
                state = canary_state(self._folder, experiment)
                states.append(state)
                if state.verdict is not Verdict.go_on:
                    self._store.conclude(experiment, state.verdict, state.reason)
                self._forget_others(experiment)
        self._report_verdicts()
        return tuple(states)

    def _report_verdicts(self) -> None:
        for family, traffic in self._store.read().families.items():
            for verdict in traffic.verdicts:
                if not verdict.reported:
                    kind, message = _event(family, verdict)
                    self._report(kind, message, {"family": family, "version": verdict.challenger})
                    self._store.mark_reported(family, verdict)

    def _forget_others(self, experiment: Experiment) -> None:
        """Remove the counts of experiments that this one followed.

        Only old ones: a worker may know sooner than this process that another one has begun.
        """
        before = time.time() - _KEPT_SECONDS
        for folder in (self._folder / FOLDER / experiment.family).glob("*"):
            if folder.name != experiment.name and folder.stat().st_mtime < before:
                shutil.rmtree(folder)


def _event(family: str, verdict: CanaryVerdict) -> tuple[str, str]:
    name = f"{family}/{verdict.challenger}"
    if verdict.verdict == Verdict.stop_worse:
        return "canary_stopped", (
            f"{name} answers no more: it is worse than {family}/{verdict.champion} "
            f"({verdict.reason}). `mlops canary {family} start` begins anew"
        )
    return "canary_done", (
        f"{name} is within its limits beside {family}/{verdict.champion} ({verdict.reason}); it "
        "goes on answering its share"
    )


def _compared(what: str, tallies: Mapping[Arm, Tally], form: str, judgement: Judgement) -> str:
    def of(arm: Arm) -> str:
        mean = tallies[arm].mean
        return f"{'–' if mean is None else format(mean, form)} of {tallies[arm].count:,}"

    return (
        f"{what}: canary {of(Arm.canary)}, champion {of(Arm.champion)}, p = {judgement.p_value:.2g}"
    )
