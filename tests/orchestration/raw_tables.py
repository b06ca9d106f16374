"""A raw table of orders, declared, materialised and looked at."""

from pathlib import Path

import dagster as dg

from mlops_assets.lake import TableName
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.raw_table import RawTable, RawTableDeclaration

TABLE = TableName("raw", "orders")
HEADER = "order_id,order_date,amount\n"
GOOD = HEADER + "1,2013-01-01,10.5\n2,2013-01-02,20\n3,2013-01-03,30\n"


def raw_table_declaration(**attributes) -> RawTableDeclaration:
    return RawTableDeclaration.model_validate(
        {
            "table": "raw/orders",
            "description": "Orders.",
            "owners": ["team:shop"],
            "contract": "tests.orchestration.contracts:Orders",
            "source": {"kind": "file", "path": "orders.csv"},
            "load": {
                "mode": "daily",
                "column": "order_date",
                "days": {"start": "2013-01-01", "end": "2013-01-05"},
            },
            "max_refused_share": 0.5,
            **attributes,
        }
    )


def raw_table(tmp_path: Path, **attributes) -> dg.Definitions:
    return RawTable(raw_table_declaration(**attributes)).build_defs_at(tmp_path)


def materialise(
    platform: Platform,
    defs: dg.Definitions,
    first: str = "2013-01-01",
    last: str = "2013-01-04",
    *,
    instance: dg.DagsterInstance | None = None,
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        list(defs.assets),
        instance=instance,
        resources={RESOURCE_KEY: platform},
        raise_on_error=False,
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        }
        if first
        else {},
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [e for e in result.all_events if e.is_step_failure]
    return event.step_failure_data.error.to_string()


def rows(platform: Platform) -> list[tuple]:
    with platform.lake.connect() as con:
        return con.execute("select order_id, amount from raw.orders order by order_id").fetchall()


def broken_source(**_: object) -> None:
    raise ConnectionError("the exchange is closed")
