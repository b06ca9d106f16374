"""``mlops shadow`` and ``mlops canary``: who answers requests beside the champion."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_assets.cli.asking import user

if TYPE_CHECKING:
    from mlops_assets.serving.routing import CanaryState, Contest, TrafficStore

FamilyArgument = Annotated[str, typer.Argument(help="A model family, such as flight_delay.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is kept with the switch.")]
ActorOption = Annotated[str | None, typer.Option(help="Who. Default: the user.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class ShadowAction(StrEnum):
    """What to do about the shadow."""

    on = "on"
    off = "off"
    status = "status"


class CanaryAction(StrEnum):
    """What to do about the canary."""

    start = "start"
    stop = "stop"
    status = "status"


def shadow(
    family: FamilyArgument,
    action: Annotated[ShadowAction, typer.Argument(help="What to do.")] = ShadowAction.status,
    *,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the challenger asked everything too, without answering; or not; or say what holds."""
    store, known = _store(), _require_known(family)
    if action is not ShadowAction.status:
        store.switch_shadow(family, on=action is ShadowAction.on, by=actor or user(), reason=reason)
    facts = _facts(store, family, known)
    _print(
        {
            name: facts[name]
            for name in ("family", "champion", "challenger", "shadow", "shadow_why")
        },
        f"shadow of {family}",
        on=facts["shadow"],
        why=facts["shadow_why"],
        as_json=as_json,
    )


def canary(
    family: FamilyArgument,
    action: Annotated[CanaryAction, typer.Argument(help="What to do.")] = CanaryAction.status,
    *,
    share: Annotated[
        float | None,
        typer.Option(help="With start: of the entities, at most 0.5. Default: as declared."),
    ] = None,
    reason: ReasonOption = "",
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the challenger answer a share of the requests; or stop that; or say how it does."""
    if share is not None and action is not CanaryAction.start:
        raise typer.BadParameter("belongs to start", param_hint="--share")
    store, known = _store(), _require_known(family)
    if action is CanaryAction.start:
        store.start_canary(family, by=actor or user(), share=share, reason=reason)
    elif action is CanaryAction.stop:
        store.stop_canary(family, by=actor or user(), reason=reason)
    facts = _facts(store, family, known)
    shown = {name: value for name, value in facts.items() if not name.startswith("shadow")}
    _print(
        shown,
        f"canary of {family}",
        on=facts["canary"],
        why=facts["canary_why"],
        as_json=as_json,
    )
    if facts["arms"] and not as_json:
        from mlops_assets.cli.output import print_table, print_text

        print_table("So far", facts["arms"], empty="nothing")
        print_text(f"Verdict: {facts['verdict']}")


# What holds ---------------------------------------------------------------------------------------


def _folder() -> Path:
    from mlops_assets.settings import current_settings

    return current_settings().home / "serving"


def _store() -> "TrafficStore":
    from mlops_assets.serving.routing import TrafficStore
    from mlops_assets.serving.routing.traffic import FILE

    return TrafficStore(_folder() / FILE)


def _require_known(family: str) -> "Contest | None":
    """Return what is deployed of a family, and refuse one that is not even registered."""
    from mlops_assets.declaration import did_you_mean
    from mlops_assets.serving.routing import TrafficError, deployed_contests

    deployed = deployed_contests(_folder())
    if family in deployed:
        return deployed[family]
    # Asked only now: a canary must be stoppable while the registry is away.
    from mlops_assets.registry import Registry
    from mlops_assets.settings import current_settings

    names = {*deployed, *Registry.from_settings(current_settings()).families()}
    if family not in names:
        hint = did_you_mean(family, names) or f"; there are {', '.join(sorted(names)) or 'none'}"
        raise TrafficError(f"there is no model family {family!r}{hint}")
    return None


def _facts(store: "TrafficStore", family: str, contest: "Contest | None") -> dict[str, Any]:
    """Say what holds for a family, and how its canary does."""
    from mlops_assets.serving.routing import canary_state, plan

    traffic = store.read().of(family)
    facts: dict[str, Any] = {
        "family": family,
        "champion": None,
        "challenger": None,
        "shadow": False,
        "shadow_why": "no server has deployed the family yet",
        "canary": False,
        "canary_why": "no server has deployed the family yet",
        "share": None,
        "arms": [],
        "verdict": None,
        "verdicts": [verdict.model_dump(mode="json") for verdict in traffic.verdicts],
    }
    if contest is None:
        return facts
    planned = plan(contest, traffic)
    facts |= {
        "champion": contest.champion,
        "challenger": contest.challenger,
        "shadow": planned.shadow,
        "shadow_why": planned.shadow_why,
        "canary": planned.canary is not None,
        "canary_why": planned.canary_why,
    }
    if planned.canary is not None:
        state = canary_state(_folder(), planned.canary)
        facts |= {
            "share": planned.canary.rules.share,
            "arms": _arms(state),
            "verdict": f"{state.verdict} ({state.reason})",
        }
    return facts


def _arms(state: "CanaryState") -> list[dict[str, Any]]:
    from mlops_assets.serving.routing import confidence_sequence

    versions = {"champion": state.experiment.champion, "canary": state.experiment.challenger}
    rows = []
    for arm, counts in state.counts.items():
        low, high = confidence_sequence(counts.failures, state.experiment.rules.alpha)
        rows.append(
            {
                "arm": str(arm),
                "version": versions[arm],
                "requests": counts.failures.count,
                "failed": int(counts.failures.total),
                "failure rate": counts.failures.mean,
                "low": low,
                "high": high,
                "outcomes": counts.losses.count,
                "mean loss": counts.losses.mean,
            }
        )
    return rows


def _print(facts: dict[str, Any], what: str, *, on: bool, why: str, as_json: bool) -> None:
    from mlops_assets.cli.output import print_json, print_text

    if as_json:
        print_json(facts)
        return
    share = f" for {facts['share']:.1%} of the entities" if facts.get("share") else ""
    print_text(f"{what}: {'on' if on else 'off'}{share} ({why})")
