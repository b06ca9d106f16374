"""Rolling back: who served before serves again, and there is an incident that says why."""

from typing import TYPE_CHECKING

from mlops_assets.alerting import Severity
from mlops_assets.lake import Lake
from mlops_assets.production.errors import ProductionError
from mlops_assets.production.incidents import Incident, IncidentKind, open_incident
from mlops_assets.production.rollback.deciding import RollbackDecision
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    from mlops_assets.registry import LedgerEntry, Registry

ACTOR = "automatic rollback"
"""Who rolls back, as ledger and incident have it."""


def roll_back(
    lake: Lake,
    registry: "Registry",
    family: ModelFamily,
    decision: RollbackDecision,
    *,
    actor: str = ACTOR,
) -> Incident:
    """Do what was decided: switch to the version before, and record an incident.

    Doing it again changes nothing: the switch happens only while the decision's champion still
    serves, and the incident of one switch is one incident. Where the registry refuses the switch,
    because the version before does not load or answers differently, nobody is switched and an
    incident says so.

    Parameters
    ----------
    lake, registry
        Of the deployment.
    family
        Whose.
    decision
        From `judge_rollback`.
    actor
        Who does it; it goes into ledger and incident.

    Returns
    -------
    Incident
        What was recorded: a rollback, or one that failed.

    Raises
    ------
    ProductionError
        When the decision is not to roll back, or another version than the decision's serves.
    """
    from mlops_assets.registry import RegistryError, promotion

    champion, target = decision.champion, decision.target
    if not decision.roll_back or champion is None or target is None:
        raise ProductionError(f"nothing is rolled back: {decision.summary}")
    if _is_done(lake, decision, actor):
        return _recorded(lake, _rolled_back(decision, actor))
    serving = promotion.serving(registry, family.name)
    if serving != f"{family.name}/{champion}":
        raise ProductionError(
            f"{family.name}: {serving} serves, and the decision was about "
            f"{family.name}/{champion}; decide again"
        )
    try:
        promotion.roll_back(
            registry,
            family.name,
            actor=actor,
            reason="; ".join(decision.breaches),
            to=target,
            instead_of=serving,
        )
    except RegistryError as error:
        return _recorded(lake, _failed(decision, actor, str(error)))
    return _recorded(lake, _rolled_back(decision, actor))


def roll_back_by_hand(
    lake: Lake,
    registry: "Registry",
    family: str,
    *,
    actor: str,
    reason: str,
    to: int | None = None,
    instead_of: str | None = None,
) -> "tuple[LedgerEntry, Incident]":
    """Roll back on a person's word, and record an incident.

    Parameters
    ----------
    lake, registry, family
        Where and whose.
    actor, reason
        Who asks and why.
    to, instead_of
        As in `mlops_assets.registry.roll_back`.

    Raises
    ------
    mlops_assets.registry.RegistryError
        When the registry refuses it; nothing has changed then.
    """
    from mlops_assets.registry import promotion

    entry = promotion.roll_back(
        registry, family, actor=actor, reason=reason, to=to, instead_of=instead_of
    )
    if entry.at is None:
        raise ProductionError(f"{family}: the ledger's entry {entry.entry_id} has no time")
    incident = Incident(
        IncidentKind.model_rollback,
        family,
        entry.entry_id,
        entry.at,
        Severity.warning,
        what=f"{family}/{entry.from_version} was taken back by hand: {reason}",
        done=f"{family}/{entry.to_version} serves again.",
        by=actor,
        evidence={"champion": entry.from_version, "target": entry.to_version},
        asset=f"{family}/champion",
        family=family,
    )
    return entry, _recorded(lake, incident)


def _is_done(lake: Lake, decision: RollbackDecision, actor: str) -> bool:
    """Tell whether the switch was made already, by who died before recording the incident."""
    from mlops_assets.registry import Event, ledger

    switches = [
        entry for entry in ledger.read(lake, decision.family) if entry.event is not Event.refused
    ]
    return bool(switches) and (
        switches[-1].event,
        switches[-1].from_version,
        switches[-1].to_version,
        switches[-1].actor,
    ) == (Event.rolled_back, decision.champion, decision.target, actor)


def _rolled_back(decision: RollbackDecision, actor: str) -> Incident:
    family, champion, target = decision.family, decision.champion, decision.target
    return Incident(
        IncidentKind.model_rollback,
        family,
        _key(decision),
        decision.at,
        Severity.error,
        what=f"{family}/{champion} broke a limit: {'; '.join(decision.breaches)}",
        done=f"{family}/{target}, which served before, serves again. {family}/{champion} comes "
        "back only by the gate or by a person.",
        by=actor,
        evidence=_evidence(decision),
        asset=f"{family}/champion",
        family=family,
    )


def _failed(decision: RollbackDecision, actor: str, why: str) -> Incident:
    family, champion, target = decision.family, decision.champion, decision.target
    return Incident(
        IncidentKind.rollback_failed,
        family,
        _key(decision),
        decision.at,
        Severity.critical,
        what=f"{family}/{champion} broke a limit ({'; '.join(decision.breaches)}), and "
        f"{family}/{target} could not take its place: {why}",
        done=f"Nothing: {family}/{champion} still serves. Name another version: "
        f"mlops models rollback {family} --to VERSION",
        by=actor,
        evidence=_evidence(decision),
        asset=f"{family}/champion",
        family=family,
    )


def _key(decision: RollbackDecision) -> str:
    """Name the switch: each pair of versions can be switched by an automatic rollback once.

    Only a promotion brings the champion of the decision back, so the instant tells two apart.
    """
    return f"{decision.champion}-{decision.target}-{decision.at.isoformat()}"


def _evidence(decision: RollbackDecision) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "champion": decision.champion,
        "target": decision.target,
        "breaches": list(decision.breaches),
        "reasons_against": list(decision.reasons_against),
        "comparison": asdict(decision.comparison) if decision.comparison else None,
        "error_rate": decision.error_rate,
        "slow_share": decision.slow_share,
    }


def _recorded(lake: Lake, incident: Incident) -> Incident:
    open_incident(lake, incident)
    return incident
