"""The ledger: an append-only Delta table of who became champion, when, why, instead of whom."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import uuid4

from mlops_assets.lake import Lake, TableName

LEDGER = TableName("registry", "ledger")


class Event(StrEnum):
    """What happened."""

    promoted = "promoted"
    rolled_back = "rolled_back"
    refused = "refused"
    observed = "observed"


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the ledger.

    Attributes
    ----------
    at
        When, in UTC.
    family
        Whose.
    event
        `promoted`, `rolled_back`, `refused` by the gate, or `observed`: the champion was found to
        be another than the ledger says, because it was switched outside this platform.
    actor, reason
        Who and why.
    from_version, to_version
        Champion before and after; None where there was none. A refusal leaves both equal.
    challenger
        The version the gate judged, if one.
    metric, gain, low, high, minimum_gain
        The gate's numbers, if it decided.
    decision
        The whole decision as JSON; empty without one.
    entry_id
        Unique.
    """

    family: str
    event: Event
    actor: str
    reason: str
    from_version: int | None
    to_version: int | None
    challenger: int | None = None
    metric: str | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    minimum_gain: float | None = None
    decision: str = ""
    at: datetime | None = None
    entry_id: str = ""


_COLUMNS = (
    ("at", "timestamp", "When it happened."),
    ("family", "string", "Model family."),
    ("event", "string", "promoted, rolled_back, refused, or observed (found, not made, by us)."),
    ("actor", "string", "Who did it."),
    ("reason", "string", "Why."),
    ("from_version", "int64", "Champion before; null where there was none."),
    ("to_version", "int64", "Champion after."),
    ("challenger", "int64", "Version the gate judged; null without a gate."),
    ("metric", "string", "Primary metric of the gate."),
    ("gain", "double", "Improvement over the champion, positive when better."),
    ("low", "double", "Lower end of the interval of the gain."),
    ("high", "double", "Upper end of the interval of the gain."),
    ("minimum_gain", "double", "What the whole interval had to exceed."),
    ("decision", "string", "The gate's decision in full, as JSON; empty without one."),
    ("entry_id", "string", "Unique name of this entry."),
)


def append(lake: Lake, entry: LedgerEntry) -> LedgerEntry:
    """Write one entry, exactly once, and return it as written."""
    import pyarrow as pa

    kinds = {
        "timestamp": pa.timestamp("us", "UTC"),
        "string": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
    }
    schema = pa.schema(
        [pa.field(name, kinds[kind], metadata={"comment": text}) for name, kind, text in _COLUMNS]
    )
    values = asdict(entry)
    values["at"] = values["at"] or datetime.now(UTC)
    values["entry_id"] = values["entry_id"] or uuid4().hex
    table = pa.Table.from_pylist([{**values, "event": str(entry.event)}], schema=schema)
    lake.append(
        LEDGER,
        table,
        transaction=(f"ledger-{values['entry_id']}", 1),
        description="Promotions, refusals and rollbacks of models: who, why, from, to, by what.",
    )
    return LedgerEntry(**values)


def read(lake: Lake, family: str | None = None) -> tuple[LedgerEntry, ...]:
    """Return the entries, oldest first, of one family or of all."""
    if not lake.exists(LEDGER):
        return ()
    rows = lake.read(LEDGER).read_all().sort_by([("at", "ascending")]).to_pylist()
    return tuple(
        LedgerEntry(**{**row, "event": Event(row["event"])})
        for row in rows
        if family in {None, row["family"]}
    )
