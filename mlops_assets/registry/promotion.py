"""Changing who serves: gate, promotion and rollback.

The switch itself is one alias change, so a reader of the champion alias sees the old model or the
new one and never neither. Everything that can fail comes before it: the lock, the check that the
target loads and answers as it did, the pins on what it learnt from. What comes after it, the other
aliases and the ledger, is finished by the next operation if the process dies in between: the
journal says what was meant, and the ledger who served before.
"""

from dataclasses import dataclass

import numpy as np

from mlops_assets.lake import LakeError
from mlops_assets.registry import journal, ledger
from mlops_assets.registry.errors import PromotionError
from mlops_assets.registry.gate import Contender, Decision, decide
from mlops_assets.registry.latency import measure_latency
from mlops_assets.registry.ledger import Event, LedgerEntry
from mlops_assets.registry.lock import family_lock
from mlops_assets.registry.names import Alias, ModelReference
from mlops_assets.registry.registry import ModelVersion, Registry
from mlops_assets.registry.retention import release_pins
from mlops_assets.training.candidate import resampling_for, train_baseline
from mlops_assets.training.dataset import FeatureSchema, Part, load_parts
from mlops_assets.training.example_input import EXAMPLE_ROWS
from mlops_assets.training.family import ModelFamily

BASELINE = "baseline"
"""Whom a challenger meets where nobody serves."""


@dataclass(frozen=True)
class Outcome:
    """What came of a challenger.

    Attributes
    ----------
    decision
        The gate's.
    champion
        Who serves now; None when nobody does.
    entry
        The line in the ledger.
    """

    decision: Decision
    champion: ModelVersion | None
    entry: LedgerEntry


def set_challenger(registry: Registry, version: ModelVersion) -> None:
    """Let a version wait for the gate."""
    with family_lock(registry.locks, version.family):
        _set(registry, version.family, Alias.challenger, version.version)


def judge(
    registry: Registry, family: ModelFamily, challenger: ModelVersion, *, seed: int
) -> Decision:
    """Compare the challenger with the champion, or with the baseline where there is none.

    Both answer the test part of the challenger's training set. The baseline is fitted to its
    training part. The challenger's latency is measured on the rows of its example.

    Parameters
    ----------
    registry
        Loads both models, and reads the rows from its lake.
    family
        The declaration.
    challenger
        Who wants to serve.
    seed
        The deployment's; the family's own wins.

    Raises
    ------
    DatasetError
        When the champion takes a feature this training set does not have.
    """
    resampling = resampling_for(family, seed)
    champion = registry.find_or_none(ModelReference(family.name, alias=Alias.champion))
    lake, training_set = registry.lake, challenger.training_set
    model = registry.load(challenger)
    test = load_parts(lake, training_set, family, ("test",), model.schema)["test"]
    contender = Contender(
        str(challenger),
        model.predict(test.features),
        challenger.last_day,
        measure_latency(model, test.features.head(EXAMPLE_ROWS)),
    )
    if champion is not None:
        other = registry.load(champion)
        its_test = load_parts(lake, training_set, family, ("test",), other.schema)["test"]
        until, name = champion.last_day, str(champion)
        answers = test.task.aligned(other.predict(its_test.features), other.task)
    else:
        groups = family.gate.baseline.by
        parts = load_parts(lake, training_set, family, schema=FeatureSchema(groups, groups))
        its_test, until, name = parts["test"], challenger.last_day, BASELINE
        answers = train_baseline(family, parts).predict(its_test.features)
    _require_same_rows(test, its_test)
    return decide(family, test, contender, Contender(name, answers, until), resampling)


def promote(registry: Registry, decision: Decision, *, actor: str, reason: str) -> Outcome:
    """Make the challenger champion if the gate said so, and write down the decision either way.

    Parameters
    ----------
    registry
        Where.
    decision
        From `judge`.
    actor, reason
        Who asks and why; both go into the ledger.

    Raises
    ------
    PromotionError
        When the champion has changed since the decision.
    RegistryError
        When the challenger does not load or answers its example differently.
    """
    version = registry.find(decision.challenger)
    with family_lock(registry.locks, version.family):
        before = _settled_champion(registry, version.family)
        if decision.opponent != _who(before):
            raise PromotionError(
                f"{decision.challenger} was judged against {decision.opponent}, but "
                f"{_who(before)} is who serves now; judge again"
            )
        if decision.promote:
            entry = _entry(version, Event.promoted, actor, reason, before, version, decision)
            entry = _switch(registry, version, before, entry)
        else:
            entry = _entry(version, Event.refused, actor, reason, before, before, decision)
            entry = ledger.append(registry.lake, entry)
        release_pins(registry, version.family)
        champion = ModelReference(version.family, alias=Alias.champion)
        return Outcome(decision, registry.find_or_none(champion), entry)


def promote_by_hand(
    registry: Registry,
    reference: ModelReference,
    *,
    actor: str,
    reason: str,
    instead_of: str | None = None,
) -> LedgerEntry:
    """Make a version champion on a person's word, without the gate; the ledger says so.

    Parameters
    ----------
    registry, reference
        Where and which.
    actor, reason
        Who asks and why.
    instead_of
        Who serves as far as that person knows, such as `flight_delay/3`, or `BASELINE` for nobody.
        Default: whoever does when this is called.

    Raises
    ------
    PromotionError
        When it already serves, or somebody else came first.
    RegistryError
        When it does not load or answers its example differently.
    """
    version = registry.find(reference)
    expected = instead_of or serving(registry, version.family)
    with family_lock(registry.locks, version.family):
        before = _settled_champion(registry, version.family)
        _require_unchanged(before, expected, version)
        if before is not None and before.version == version.version:
            raise PromotionError(f"{version} is already champion")
        entry = _entry(version, Event.promoted, actor, reason, before, version, None)
        return _switch(registry, version, before, entry)


def roll_back(
    registry: Registry,
    family: str,
    *,
    actor: str,
    reason: str,
    to: int | None = None,
    instead_of: str | None = None,
) -> LedgerEntry:
    """Make the version that served before champion again. Rolling back twice undoes it.

    Parameters
    ----------
    registry, family
        Where and whose.
    actor, reason
        Who asks and why.
    to
        Another version to go back to.
    instead_of
        Who serves as far as who asks knows; default: whoever does when this is called.

    Raises
    ------
    PromotionError
        When there is no champion, nothing to go back to, it already serves, or somebody else
        switched first.
    RegistryError
        When the target does not load or answers its example differently.
    """
    expected = instead_of or serving(registry, family)
    with family_lock(registry.locks, family):
        before = _settled_champion(registry, family)
        _require_unchanged(before, expected, family)
        if before is None:
            raise PromotionError(f"{family} has no champion, so there is nothing to roll back")
        wanted = ModelReference(family, to) if to else ModelReference(family, alias=Alias.previous)
        target = registry.find_or_none(wanted)
        if target is None:
            raise PromotionError(
                f"{family}: there is no {wanted} to go back to; {before} is its first champion"
                if to is None
                else f"{family}: there is no version {to}"
            )
        if target.version == before.version:
            raise PromotionError(f"{target} is already champion; name a version to go back to")
        entry = _entry(target, Event.rolled_back, actor, reason, before, target, None)
        return _switch(registry, target, before, entry)


def serving(registry: Registry, family: str) -> str:
    """Return the name of who serves, or `BASELINE` where nobody does."""
    return _who(registry.find_or_none(ModelReference(family, alias=Alias.champion)))


def _who(champion: ModelVersion | None) -> str:
    return BASELINE if champion is None else str(champion)


def _require_unchanged(
    champion: ModelVersion | None, expected: str, wanted: ModelVersion | str
) -> None:
    if _who(champion) != expected:
        was, now = ("nobody" if name == BASELINE else name for name in (expected, _who(champion)))
        raise PromotionError(
            f"{wanted}: {was} served when this was asked for, but {now} does now; somebody else "
            "came first. Look at `mlops models list` and ask again"
        )


def _require_same_rows(one: Part, other: Part) -> None:
    same = np.array_equal(one.label, other.label) and np.array_equal(one.days, other.days)
    keys = [name for name in one.context.columns if name in other.context.columns]
    if not same or not one.context[keys].equals(other.context[keys]):
        raise PromotionError("champion and challenger were given different rows; judge again")


def _switch(
    registry: Registry, target: ModelVersion, before: ModelVersion | None, entry: LedgerEntry
) -> LedgerEntry:
    """Check the target, make it champion by one alias change, and write it down."""
    registry.verify(target)
    try:
        registry.pin(target)
    except LakeError as error:
        raise PromotionError(
            f"{target}: a table version that it learnt from is gone, so it could not be made "
            f"again; train its successor instead. {error}"
        ) from error
    entry = journal.intend(registry.locks, entry)
    _set(registry, target.family, Alias.champion, target.version)
    if before is not None:
        _set(registry, target.family, Alias.previous, before.version)
    if Alias.challenger in target.aliases:
        registry.client.delete_registered_model_alias(target.family, Alias.challenger.value)
    entry = ledger.append(registry.lake, entry)
    journal.finished(registry.locks, target.family)
    return entry


def _set(registry: Registry, family: str, alias: Alias, version: int) -> None:
    registry.client.set_registered_model_alias(family, alias.value, str(version))


def _settled_champion(registry: Registry, family: str) -> ModelVersion | None:
    """Return who serves, after finishing what a killed operation or a stranger left undone.

    The champion alias is the truth. A switch that the ledger does not know of is written down, with
    its actor and reason where the journal has them; `previous` is who the ledger says served
    before; a champion no longer waits for the gate.
    """
    champion = registry.find_or_none(ModelReference(family, alias=Alias.champion))
    found = champion.version if champion else None
    entries = ledger.read(registry.lake, family)
    meant = journal.intended(registry.locks, family)
    if meant is not None:
        if meant.to_version == found and meant.entry_id not in {e.entry_id for e in entries}:
            entries = (*entries, ledger.append(registry.lake, meant))
        journal.finished(registry.locks, family)
    switches = [entry for entry in entries if entry.event is not Event.refused]
    known = switches[-1].to_version if switches else None
    if known != found:
        observed = LedgerEntry(
            family=family,
            event=Event.observed,
            actor="unknown",
            reason="the champion alias was found changed, outside this platform",
            from_version=known,
            to_version=found,
        )
        switches.append(ledger.append(registry.lake, observed))
    if champion is not None:
        _mend_aliases(registry, champion, switches[-1].from_version)
    return champion


def _mend_aliases(registry: Registry, champion: ModelVersion, before: int | None) -> None:
    family = champion.family
    if Alias.challenger in champion.aliases:
        registry.client.delete_registered_model_alias(family, Alias.challenger.value)
    previous = registry.find_or_none(ModelReference(family, alias=Alias.previous))
    if before is None or (previous is not None and previous.version == before):
        return
    if registry.find_or_none(ModelReference(family, before)) is not None:
        _set(registry, family, Alias.previous, before)


def _entry(
    version: ModelVersion,
    event: Event,
    actor: str,
    reason: str,
    before: ModelVersion | None,
    after: ModelVersion | None,
    decision: Decision | None,
) -> LedgerEntry:
    comparison = decision.comparison if decision else None
    return LedgerEntry(
        family=version.family,
        event=event,
        actor=actor,
        reason=reason,
        from_version=before.version if before else None,
        to_version=after.version if after else None,
        challenger=version.version if decision else None,
        metric=decision.metric if decision else None,
        gain=comparison.gain if comparison else None,
        low=comparison.low if comparison else None,
        high=comparison.high if comparison else None,
        minimum_gain=decision.minimum_gain if decision else None,
        decision=decision.to_json() if decision else "",
    )
