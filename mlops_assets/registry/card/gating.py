"""Whether a model may serve: what the family asks, what the gate said, what the ledger holds."""

from collections.abc import Iterable

from mlops_assets.registry.card import content as it
from mlops_assets.registry.card.wording import facts
from mlops_assets.registry.gate import Decision
from mlops_assets.registry.ledger import Event, LedgerEntry
from mlops_assets.registry.names import ModelReference
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.tasks import Task


def gate_rules(family: ModelFamily, task: Task) -> tuple[it.Fact, ...]:
    """Say what the family asks of a challenger."""
    gate = family.gate
    gained = f"gain in {task.metric(family.primary_metric).title} above {gate.minimum_gain:g}"
    rows = [
        ("Gain", f"the whole {gate.confidence:.0%} interval of the {gained}"),
        ("Answers", "must differ from the opponent's"),
        ("Test rows", "later than everything either model learnt from"),
        (
            "First champion",
            "must beat the rate of each "
            + (" and ".join(gate.baseline.by) if gate.baseline.by else "training set"),
        ),
    ]
    if gate.slices is not None:
        columns = ", ".join(gate.slices.columns or family.slices)
        rows.append(("Slices", f"no {columns} worse by more than {gate.slices.margin:g}"))
    if gate.max_calibration_error is not None:
        rows.append(("Calibration", f"error at most {gate.max_calibration_error:g}"))
    if gate.max_latency_ms is not None:
        rows.append(("Latency", f"95 of 100 single predictions within {gate.max_latency_ms:g} ms"))
    return facts(rows)


def gate_decision(card: it.ModelCard, decision: Decision) -> it.GateDecision:
    """Say what the gate decided."""
    gain = decision.comparison
    by = decision.resampling
    draws = f"{by.draws:,} paired draws of whole days"
    return it.GateDecision(
        promote=decision.promote,
        summary=decision.summary,
        opponent=decision.opponent,
        metric=card.primary.title,
        minimum_gain=decision.minimum_gain,
        gain=None if gain is None else it.Measured(value=gain.gain, low=gain.low, high=gain.high),
        conditions=tuple(
            it.GateCondition(name=one.name, met=one.met, reason=one.reason)
            for one in decision.conditions
        ),
        judged_on=f"{decision.rows:,} rows of {decision.first_day} to {decision.last_day}",
        resampling=f"{by.confidence:.0%} of {draws}, seed {by.seed}",
    )


def history_of(card: it.ModelCard, entries: Iterable[LedgerEntry]) -> tuple[it.HistoryLine, ...]:
    """Return what the ledger says of a card's version, oldest first."""
    this = card.identity.version
    words = {
        Event.promoted: "promoted",
        Event.refused: "refused",
        Event.rolled_back: "rolled back",
        Event.observed: "found changed",
    }
    return tuple(
        it.HistoryLine(
            at=entry.at,
            event=words[entry.event],
            actor=entry.actor,
            reason=entry.reason,
            change=f"{_named(card, entry.from_version)} → {_named(card, entry.to_version)}",
        )
        for entry in entries
        if entry.family == card.identity.family
        and entry.at is not None
        and this in {entry.challenger, entry.from_version, entry.to_version}
    )


def _named(card: it.ModelCard, version: int | None) -> str:
    return "nobody" if version is None else str(ModelReference(card.identity.family, version))
