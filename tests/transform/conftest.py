"""A small dbt project of its own, with the macros of the real one."""

import shutil
from datetime import date
from pathlib import Path

import duckdb
import pytest
import yaml

from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import DuckDBLimits
from mlops_assets.transform.project import DbtProject

REAL_PROJECT = Path(__file__).parents[2] / "dbt_project"
SALES = TableName("raw", "sales")

MODELS = {
    "staging/stg_sales.sql": """
{{ config(materialized='windowed', window_column='day') }}
select day, shop, amount from {{ source('raw', 'sales') }}
""",
    "marts/shop_totals.sql": """
select shop, cast(sum(amount) as bigint) as total from {{ ref('stg_sales') }} group by shop
""",
    "marts/shop_count.sql": """
select cast(count(*) as bigint) as shops from {{ ref('shop_totals') }}
""",
}
SCHEMA = {
    "version": 2,
    "sources": [
        {
            "name": "raw",
            "tables": [
                {
                    "name": "sales",
                    "columns": [
                        {"name": "day", "data_type": "date"},
                        {"name": "shop", "data_type": "varchar"},
                        {"name": "amount", "data_type": "bigint"},
                    ],
                }
            ],
        }
    ],
    "models": [
        {
            "name": "stg_sales",
            "description": "Sales.",
            "columns": [
                {"name": "day", "data_type": "date", "description": "Day of the sale."},
                {"name": "shop", "data_type": "varchar", "description": "Shop."},
                {
                    "name": "amount",
                    "data_type": "bigint",
                    "description": "Amount.",
                    "data_tests": ["not_null"],
                },
            ],
        },
        {
            "name": "shop_totals",
            "description": "Totals.",
            "columns": [
                {
                    "name": "shop",
                    "data_type": "varchar",
                    "description": "Shop.",
                    "data_tests": [{"accepted_values": {"arguments": {"values": ["a", "b"]}}}],
                },
                {"name": "total", "data_type": "bigint", "description": "Sum of amounts."},
            ],
        },
        {
            "name": "shop_count",
            "description": "How many shops.",
            "columns": [{"name": "shops", "data_type": "bigint", "description": "Shops."}],
        },
    ],
}


@pytest.fixture
def project(tmp_path: Path) -> DbtProject:
    folder = tmp_path / "dbt_project"
    shutil.copytree(REAL_PROJECT / "macros", folder / "macros")
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(REAL_PROJECT / name, folder / name)
    for name, text in MODELS.items():
        path = folder / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "models" / "schema.yml").write_text(yaml.safe_dump(SCHEMA))
    return DbtProject(folder)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    limits = DuckDBLimits(memory_limit="512MiB", threads=2, scratch=tmp_path / "scratch")
    return Lake(str(tmp_path / "lake"), limits=limits)


def write_sales(lake: Lake, rows: list[tuple[date, str, int | None]]) -> None:
    values = ", ".join(
        f"(date '{day}', '{shop}', {'null' if amount is None else amount}::bigint)"
        for day, shop, amount in rows
    )
    with duckdb.connect() as con:
        reader = con.sql(f"select * from (values {values}) t(day, shop, amount)")
        lake.overwrite(SALES, reader.to_arrow_reader())


def totals(lake: Lake) -> dict[str, int]:
    with lake.connect() as con:
        return dict(con.execute("select shop, total from marts.shop_totals").fetchall())
