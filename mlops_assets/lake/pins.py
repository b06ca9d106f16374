"""Pins: which versions must stay readable, and for whom. They are rows of a table of the lake.

The table only ever grows: releasing a pin appends a row too. So pinning never conflicts, and who
needed which version when stays known.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from mlops_assets.lake.names import TableName
from mlops_assets.lake.schemas import INSTANT

PINS = TableName("platform", "pins")
DESCRIPTION = "Versions of tables that models pin: vacuum keeps their files."


def _field(name: str, kind: pa.DataType, comment: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"comment": comment})


SCHEMA = pa.schema(
    [
        _field("pin_id", pa.string(), "Identifies the pin; a release repeats it."),
        _field("table_name", pa.string(), "The pinned table, as schema/name."),
        _field("version", pa.int64(), "Its pinned Delta version."),
        _field("owner", pa.string(), "What needs it, such as flight_delay/3."),
        _field("pinned_at", INSTANT, "When it was pinned."),
        _field("released_at", INSTANT, "When it was released; null while it holds.", nullable=True),
    ]
)


@dataclass(frozen=True)
class Pin:
    """One version that must stay readable.

    Attributes
    ----------
    table, version
        What is pinned.
    owner
        What needs it, such as ``flight_delay/3``.
    pinned_at
        Since when, in UTC.
    pin_id
        Identifies the pin.
    """

    table: TableName
    version: int
    owner: str
    pinned_at: datetime
    pin_id: str

    def row(self, released_at: datetime | None = None) -> dict[str, object]:
        """Return the row that records the pin, or its release."""
        return {
            "pin_id": self.pin_id,
            "table_name": str(self.table),
            "version": self.version,
            "owner": self.owner,
            "pinned_at": self.pinned_at,
            "released_at": released_at,
        }


def holding(rows: pa.Table) -> tuple[Pin, ...]:
    """Return the pins that were not released, oldest first, from all rows of the table."""
    records = rows.to_pylist()
    released = {record["pin_id"] for record in records if record["released_at"] is not None}
    pins = {
        record["pin_id"]: Pin(
            table=TableName.parse(record["table_name"]),
            version=record["version"],
            owner=record["owner"],
            pinned_at=record["pinned_at"].astimezone(UTC),
            pin_id=record["pin_id"],
        )
        for record in records
        if record["pin_id"] not in released
    }
    return tuple(sorted(pins.values(), key=lambda pin: (pin.pinned_at, pin.pin_id)))
