"""Building dbt models: what is tested is published, what fails keeps its last good version."""

from datetime import date

import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.transform.build import ModelStatus, build
from mlops_assets.transform.column_lineage import ColumnOrigin, column_lineage
from mlops_assets.transform.project import DbtProject, DbtProjectError
from tests.transform.conftest import SALES, totals, write_sales

ALL = ("stg_sales", "shop_totals", "shop_count")
JANUARY, FEBRUARY, MARCH = date(2013, 1, 1), date(2013, 2, 1), date(2013, 3, 1)
ROWS = [
    (date(2013, 1, 5), "a", 1),
    (date(2013, 1, 6), "b", 10),
    (date(2013, 2, 5), "a", 100),
    (date(2013, 2, 6), "b", 1000),
]


def statuses(outcome) -> dict[str, ModelStatus]:
    return {model.model.name: model.status for model in outcome.models}


def test_a_window_shows_the_whole_table_downstream(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, ROWS)

    build(lake, project, ALL, window=(JANUARY, FEBRUARY))
    assert totals(lake) == {"a": 1, "b": 10}

    build(lake, project, ALL, window=(FEBRUARY, MARCH))
    assert totals(lake) == {"a": 101, "b": 1010}

    write_sales(lake, [(date(2013, 1, 5), "a", 2), *ROWS[1:]])
    build(lake, project, ALL, window=(date(2013, 1, 5), date(2013, 1, 6)))
    assert totals(lake) == {"a": 102, "b": 1010}


def test_a_window_changes_only_its_days(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, ROWS)
    build(lake, project, ["stg_sales"])
    write_sales(lake, [(day, shop, 7) for day, shop, _ in ROWS])

    build(lake, project, ["stg_sales"], window=(FEBRUARY, MARCH))

    with lake.connect() as con:
        amounts = con.execute("select amount from staging.stg_sales order by day").fetchall()
    assert amounts == [(1,), (10,), (7,), (7,)]


def test_one_model_alone_reads_the_rest_from_the_lake(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, ROWS)
    build(lake, project, ALL)

    outcome = build(lake, project, ["shop_count"])

    assert statuses(outcome) == {"shop_count": ModelStatus.published}
    with lake.connect() as con:
        assert con.execute("select shops from marts.shop_count").fetchall() == [(2,)]


def test_a_failed_test_keeps_the_last_good_version(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, ROWS)
    build(lake, project, ALL)
    write_sales(lake, [*ROWS, (date(2013, 2, 7), "unknown shop", 5)])

    outcome = build(lake, project, ALL)

    assert statuses(outcome) == {
        "stg_sales": ModelStatus.published,
        "shop_totals": ModelStatus.refused,
        "shop_count": ModelStatus.skipped,
    }
    assert not outcome.ok
    assert totals(lake) == {"a": 101, "b": 1010}
    assert lake.version(TableName("marts", "shop_totals")) == 0
    assert "unknown shop" in outcome.failure_report()


def test_nothing_is_published_before_its_test(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, [*ROWS, (date(2013, 2, 7), "a", None)])

    outcome = build(lake, project, ALL)

    assert statuses(outcome)["stg_sales"] is ModelStatus.refused
    assert lake.tables() == (SALES,)


def test_a_missing_upstream_table_is_named(lake: Lake, project: DbtProject) -> None:
    with pytest.raises(DbtProjectError, match=r"shop_totals reads staging/stg_sales.*Materialise"):
        build(lake, project, ["shop_totals"])


def test_an_unknown_model_is_named(lake: Lake, project: DbtProject) -> None:
    with pytest.raises(DbtProjectError, match="no dbt model named nothing_like_it"):
        build(lake, project, ["nothing_like_it"])


def test_broken_sql_fails_that_model_alone(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, ROWS)
    path = project.folder / "models" / "marts" / "shop_totals.sql"
    path.write_text("select shop, no_such_column as total from {{ ref('stg_sales') }}")

    outcome = build(lake, project, ALL)

    assert statuses(outcome) == {
        "stg_sales": ModelStatus.published,
        "shop_totals": ModelStatus.failed,
        "shop_count": ModelStatus.skipped,
    }
    assert "no_such_column" in outcome.failure_report()


def test_descriptions_reach_the_delta_table(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, ROWS)
    build(lake, project, ["stg_sales"])

    schema = lake.schema(TableName("staging", "stg_sales"))

    assert schema.field("shop").metadata[b"comment"] == b"Shop."


def test_the_scratch_is_gone_afterwards(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, ROWS)
    build(lake, project, ALL)

    assert [path for path in lake.limits.scratch.iterdir() if path.is_dir()] == []


def test_column_lineage_follows_the_sql(lake: Lake, project: DbtProject) -> None:
    write_sales(lake, ROWS)
    [model] = build(lake, project, ["stg_sales", "shop_totals"]).models[1:]

    origins = column_lineage(lake, project, model.model.unique_id, model.compiled_sql)

    sales = TableName("staging", "stg_sales")
    assert origins == {
        "shop": (ColumnOrigin(sales, "shop"),),
        "total": (ColumnOrigin(sales, "amount"),),
    }
