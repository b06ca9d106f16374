"""Which versions may be rolled back to, so that vacuum leaves alone what they learnt from.

A version is *eligible* while it has a role (champion, challenger, previous), once it has ever
served, and for some time after it was registered. What the others pinned is released. Pins can be
taken again as long as vacuum has not come by; promotion does so.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mlops_assets.registry import ledger
from mlops_assets.registry.ledger import Event
from mlops_assets.registry.registry import ModelVersion, Registry

KEPT_FOR = timedelta(days=90)
"""How long a version that never served keeps what it pins."""


def eligible_versions(
    registry: Registry, family: str, *, now: datetime | None = None, kept_for: timedelta = KEPT_FOR
) -> tuple[tuple[ModelVersion, ...], tuple[ModelVersion, ...]]:
    """Return the versions that may be rolled back to, and the others; each newest first.

    Parameters
    ----------
    registry, family
        Whose.
    now
        The time that age is counted to; default: this moment.
    kept_for
        Age up to which a version that never served is eligible.
    """
    moment = now or datetime.now(UTC)
    served = {
        version
        for entry in ledger.read(registry.lake, family)
        if entry.event is not Event.refused
        for version in (entry.from_version, entry.to_version)
    }
    eligible: list[ModelVersion] = []
    others: list[ModelVersion] = []
    for version in registry.versions(family):
        young = moment - version.created_at <= kept_for
        keep = bool(version.aliases) or version.version in served or young
        (eligible if keep else others).append(version)
    return tuple(eligible), tuple(others)


def release_pins(
    registry: Registry, family: str, *, now: datetime | None = None, kept_for: timedelta = KEPT_FOR
) -> Sequence[ModelVersion]:
    """Release what versions pin that are no longer eligible; return those that had pinned any.

    Parameters
    ----------
    registry, family, now, kept_for
        As for `eligible_versions`.
    """
    owners = {pin.owner for pin in registry.lake.pins()}
    _, others = eligible_versions(registry, family, now=now, kept_for=kept_for)
    released = [version for version in others if str(version) in owners]
    for version in released:
        registry.lake.unpin(str(version))
    return released
