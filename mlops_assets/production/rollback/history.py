"""What the ledger says about going back: who may, and who may not.

A version that a rollback took out of service, be it the platform's or a person's, is *barred*: no
automatic rollback brings it back. It comes back by the gate or by a person, and is not barred then.
So each automatic rollback leaves fewer versions to go back to, and there can be no flapping.
"""

from collections.abc import Iterator, Sequence

from mlops_assets.registry import Event, LedgerEntry


def barred_versions(entries: Sequence[LedgerEntry]) -> tuple[int, ...]:
    """Return the versions that may not come back by an automatic rollback, in rising order.

    Parameters
    ----------
    entries
        The family's ledger, oldest first.
    """
    barred: set[int] = set()
    for entry in _switches(entries):
        if entry.event is Event.rolled_back and entry.from_version is not None:
            barred.add(entry.from_version)
        if entry.to_version is not None:
            barred.discard(entry.to_version)
    return tuple(sorted(barred))


def last_served(entries: Sequence[LedgerEntry]) -> Iterator[int]:
    """Yield the versions that may come back by an automatic rollback, who served last first.

    Parameters
    ----------
    entries
        The family's ledger, oldest first.
    """
    switches = list(_switches(entries))
    if not switches:
        return
    champion = switches[-1].to_version
    seen = {champion, None, *barred_versions(entries)}
    served = [switches[0].from_version, *(entry.to_version for entry in switches)]
    for version in reversed(served):
        if version is not None and version not in seen:
            seen.add(version)
            yield version


def _switches(entries: Sequence[LedgerEntry]) -> Iterator[LedgerEntry]:
    return (entry for entry in entries if entry.event is not Event.refused)
