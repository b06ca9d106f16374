"""An earlier version of a table comes back: the last good one is found, and a drill shows it."""

from datetime import UTC, datetime
from pathlib import Path

import pandera.ibis as pa_ibis
import pyarrow as pa
import pytest

from mlops_assets.lake import Lake, LakeError, TableName
from mlops_assets.production.errors import RestoreError
from mlops_assets.production.incidents import IncidentKind, incidents
from mlops_assets.production.table_restore import (
    drill_table,
    last_good_version,
    record_corruption,
    restore_table,
)
from mlops_assets.production.table_rules import ContractRules, unaudited_version
from mlops_assets.quality import Contract, publish
from mlops_assets.settings import load_settings

ORDERS = TableName("raw", "orders")
AT = datetime(2013, 5, 3, tzinfo=UTC)


class Orders(Contract):
    """Orders of the shop."""

    order_id: int = pa_ibis.Field(description="Key of the order.")
    amount: float = pa_ibis.Field(ge=0, description="What was paid, in euro.")

    class Config:
        unique = ["order_id"]  # noqa: RUF012 - how Pandera takes it


RULES = ContractRules(Orders)


def rows(*amounts: float) -> pa.Table:
    return pa.table(
        {"order_id": list(range(len(amounts))), "amount": pa.array(amounts, pa.float64())}
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with two audited versions of a table, of two and of three orders."""
    lake = Lake.from_settings(load_settings(home=tmp_path))
    for number, batch in enumerate((rows(1, 2), rows(1, 2, 3))):
        with lake.connect(tables=[]) as con:
            con.register("batch", batch)
            publish(lake, con, "batch", Orders, ORDERS, mode="snapshot", batch_id=str(number))
    return lake


def corrupt(lake: Lake) -> None:
    """Write past the audit."""
    lake.append(ORDERS, rows(-1, 5).cast(lake.schema(ORDERS)))


def amounts(lake: Lake) -> list[float]:
    return sorted(lake.read(ORDERS, columns=["amount"]).read_all()["amount"].to_pylist())


def test_the_last_version_that_keeps_the_rules_is_brought_back(lake: Lake) -> None:
    corrupt(lake)
    lake.compact(ORDERS)
    record_corruption(lake, ORDERS, 2, ("a rule",), by="check", at=AT)

    done = restore_table(
        lake, ORDERS, reason="negative", actor="ada", rules=RULES, clock=lambda: AT
    )

    assert (done.before, done.good, done.now, done.rows) == (3, 1, 4, 3)
    assert amounts(lake) == [1, 2, 3]
    assert any("amount" in rule for rule in done.broken)
    corruption, rollback = sorted(incidents(lake), key=lambda each: each.kind)
    assert (corruption.kind, rollback.kind) == (
        IncidentKind.data_corruption,
        IncidentKind.data_rollback,
    )
    assert not corruption.is_open
    assert not rollback.is_open
    assert rollback.resolution == "raw/orders@4 holds the 3 rows of version 1 again."
    assert lake.history(ORDERS)[0].metadata["incident"] == rollback.incident_id


def test_what_no_rule_sees_is_brought_back_by_its_version(lake: Lake) -> None:
    done = restore_table(lake, ORDERS, version=0, reason="a hunch", actor="ada", rules=RULES)

    assert (done.good, done.broken, amounts(lake)) == (0, (), [1, 2])
    undone = restore_table(lake, ORDERS, version=done.before, reason="no", actor="ada")
    assert (undone.good, amounts(lake)) == (1, [1, 2, 3])


def test_nothing_is_brought_back_without_a_reason_to(lake: Lake) -> None:
    with pytest.raises(RestoreError, match="keeps all its rules"):
        restore_table(lake, ORDERS, reason="?", actor="ada", rules=RULES)
    with pytest.raises(RestoreError, match="no version can be found"):
        restore_table(lake, ORDERS, reason="?", actor="ada")
    with pytest.raises(RestoreError, match="at version 1 already"):
        restore_table(lake, ORDERS, version=1, reason="?", actor="ada")
    with pytest.raises(LakeError, match="99"):
        restore_table(lake, ORDERS, version=99, reason="?", actor="ada")
    assert lake.version(ORDERS) == 1
    assert incidents(lake) == ()


def test_a_table_that_was_never_good_is_refused(lake: Lake) -> None:
    bad = TableName("raw", "bad")
    lake.overwrite(bad, rows(-1))
    lake.overwrite(bad, rows(-2))

    with pytest.raises(RestoreError, match="none of its earlier versions keeps the rules"):
        last_good_version(lake, bad, RULES)


@pytest.mark.parametrize("on_copy", [True, False])
def test_a_drill_corrupts_notices_restores_and_compares(lake: Lake, *, on_copy: bool) -> None:
    drill = drill_table(lake, ORDERS, RULES, actor="ada", on_copy=on_copy)

    assert drill.passed
    assert [step.name for step in drill.steps] == [
        "corrupt the table",
        "its rules fail",
        "find the last good version",
        "bring it back",
        "compare with before",
    ]
    assert amounts(lake) == [1, 2, 3]
    assert lake.version(ORDERS) == (1 if on_copy else 3)
    kinds = {each.kind for each in incidents(lake)}
    assert kinds == {IncidentKind.drill} | (set() if on_copy else {IncidentKind.data_rollback})
    assert not any(each.is_open for each in incidents(lake))


def test_a_drill_that_no_rule_notices_fails_and_leaves_the_table_as_it_was(lake: Lake) -> None:
    class Keyless(Contract):
        """Orders without a key."""

        order_id: int = pa_ibis.Field(description="Key of the order.")
        amount: float = pa_ibis.Field(ge=0, description="What was paid, in euro.")

    drill = drill_table(lake, ORDERS, ContractRules(Keyless), actor="ada", on_copy=False)

    assert not drill.passed
    assert "no rule noticed" in drill.steps[1].outcome
    assert amounts(lake) == [1, 2, 3]
    [incident] = [each for each in incidents(lake) if each.kind is IncidentKind.drill]
    assert "The drill failed" in (incident.resolution or "")


def test_a_table_that_is_broken_already_is_no_drill(lake: Lake) -> None:
    corrupt(lake)

    with pytest.raises(RestoreError, match="This is no drill"):
        drill_table(lake, ORDERS, RULES, actor="ada")


def test_what_is_written_past_the_audit_is_seen_until_it_is_taken_back(lake: Lake) -> None:
    audited = unaudited_version(lake, ORDERS)
    corrupt(lake)
    lake.compact(ORDERS)
    past = unaudited_version(lake, ORDERS)
    lake.restore(ORDERS, 1)

    assert audited is None
    assert past == 2
    assert unaudited_version(lake, ORDERS) is None
    lake.restore(ORDERS, 2)
    assert unaudited_version(lake, ORDERS) == 2
