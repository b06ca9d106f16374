"""Dagster's UI as a person uses it: lineage, one asset made from its page, its metadata."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from mlops_assets.lake import TableName
from tests.browser.conftest import PATIENCE_MS, Keep
from tests.demo import Demo

pytestmark = [pytest.mark.demo, pytest.mark.browser, pytest.mark.timeout(1800)]

AIRLINES = TableName("raw", "airlines")
# At least one asset of each step from the raw files to the model that serves. The graph shortens
# long names, so that these are short ones.
LINEAGE = [
    *("flights", "weather", "planes", "airports", "airlines"),
    *("stg_flights", "stg_weather", "int_flights", "int_arrivals"),
    *("fct_flights", "spine_flights", "fv_schedule", "fv_weather", "fv_aircraft", "fv_route"),
    *("flight_delay", "linear", "catboost", "evaluation", "challenger", "champion"),
]
GROUPS = ["raw", "staging", "intermediate", "marts", "features", "flight_delay"]


def lineage(dagster_ui: str, unfolded: list[str]) -> str:
    """Return the address of the lineage with some groups unfolded."""
    return f"{dagster_ui}/asset-groups?expanded={','.join(f'global@global:{g}' for g in unfolded)}"


def shown_in_graph(page: Page, name: str) -> bool:
    return page.get_by_text(name, exact=True).count() > 0


def test_the_lineage_shows_everything_from_raw_to_champion(page: Page, dagster_ui: str) -> None:
    page.set_viewport_size({"width": 3000, "height": 1700})
    page.goto(dagster_ui)
    page.locator("nav a[href='/asset-groups']").click()
    for group in GROUPS:
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    # A visitor is not stopped by a window that asks for an address.
    assert page.get_by_role("dialog").count() == 0

    page.goto(lineage(dagster_ui, GROUPS))
    expect(page.get_by_text("champion", exact=True).first).to_be_visible()
    zoom_out(page, until=LINEAGE)

    assert [name for name in LINEAGE if not shown_in_graph(page, name)] == []


def zoom_out(page: Page, *, until: list[str]) -> None:
    """Zoom out until every name is drawn: what is off the screen is not part of the page."""
    size = page.viewport_size
    assert size
    page.mouse.move(size["width"] * 0.6, size["height"] * 0.5)
    for _ in range(12):
        if all(shown_in_graph(page, name) for name in until):
            return
        page.keyboard.down("Control")
        page.mouse.wheel(0, 120)
        page.keyboard.up("Control")
        page.wait_for_timeout(500)


def test_the_picture_of_the_lineage(browser: Browser, dagster_ui: str, keep: Keep) -> None:
    """With the features folded, so that it can be read at the width of a page."""
    context = browser.new_context(viewport={"width": 1500, "height": 1040}, device_scale_factor=1.4)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script("localStorage.setItem('dagster-nav-collapsed', 'true')")
    page = context.new_page()
    unfolded = [group for group in GROUPS if group != "features"]
    page.goto(lineage(dagster_ui, unfolded))
    expect(page.get_by_text("champion", exact=True).first).to_be_visible()
    page.locator("xpath=//input[starts-with(@placeholder, 'Jump to')]/following::button[1]").click()
    expect(page.get_by_placeholder("Jump to")).to_have_count(0)
    page.mouse.move(1100, 800)  # the graph was placed beside the list that is folded now
    page.mouse.down()
    page.mouse.move(1230, 832, steps=5)
    page.mouse.up()
    for name in [*GROUPS, "airlines", "stg_flights", "fct_flights", "catboost", "champion"]:
        expect(page.get_by_text(name, exact=True).first).to_be_in_viewport()
    page.wait_for_load_state("networkidle")  # the colours of the nodes come after the nodes
    keep(page, "lineage")
    context.close()


def test_an_asset_is_made_from_its_page_and_its_metadata_are_plotted(
    page: Page, demo_copy: Demo, dagster_ui: str, keep: Keep
) -> None:
    before = demo_copy.lake.version(AIRLINES)
    page.goto(f"{dagster_ui}/assets/raw/airlines")
    expect(page.get_by_text("Row count", exact=True)).to_be_visible()

    page.get_by_role("button").filter(has_text=re.compile("^Materialize$")).first.click()
    page.get_by_role("link", name="View", exact=True).click()
    expect(page).to_have_url(re.compile(r"/runs/[0-9a-f-]{36}"))
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    expect(page.get_by_text("RUN_SUCCESS", exact=True).first).to_be_visible()
    assert demo_copy.lake.version(AIRLINES) == before + 1

    page.goto(f"{dagster_ui}/assets/raw/airlines")
    page.get_by_role("button").filter(has_text=re.compile("^Plots$")).click()
    expect(page.get_by_text("dagster/row_count", exact=True)).to_be_visible()
    plot = page.locator("canvas").first
    plot.scroll_into_view_if_needed()
    expect(plot).to_be_visible()
    wait_until_painted(page)
    page.wait_for_load_state("networkidle")
    keep(page, "asset-metadata")


def wait_until_painted(page: Page) -> None:
    """Wait until every plot has been drawn on: some of its pixels are not transparent."""
    page.wait_for_function(
        """() => {
            const plots = [...document.querySelectorAll('canvas')];
            return plots.length > 0 && plots.every(plot => {
                const {width, height} = plot;
                const pixels = plot.getContext('2d').getImageData(0, 0, width, height).data;
                return pixels.some(value => value !== 0);
            });
        }"""
    )


def test_a_feature_table_shows_its_columns_and_its_neighbours(page: Page, dagster_ui: str) -> None:
    page.goto(f"{dagster_ui}/assets/features/fv_schedule")
    expect(page.get_by_text("scheduled_minutes", exact=True).first).to_be_visible()
    expect(page.get_by_text("IATA code of the operating carrier.").first).to_be_visible()
    expect(page.get_by_text("features/fv_schedule", exact=True).first).to_be_visible()

    page.get_by_role("tab", name="Lineage").click()
    for name in ("int_flights", "fv_schedule", "flight_delay"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()


def test_the_column_lineage_of_a_feature_reaches_the_server(page: Page, dagster_ui: str) -> None:
    """The open-source UI draws no lineage of columns; its server hands it to whoever does."""
    answer = page.request.post(
        f"{dagster_ui}/graphql",
        data={
            "query": """
            { assetNodes(assetKeys: [{path: ["features", "fv_schedule"]}]) {
                assetMaterializations(limit: 1) { metadataEntries {
                    ... on TableColumnLineageMetadataEntry { lineage {
                        columnName columnDeps { columnName assetKey { path } } } } } } } }"""
        },
    ).json()
    [node] = answer["data"]["assetNodes"]
    [lineage] = [
        entry["lineage"]
        for entry in node["assetMaterializations"][0]["metadataEntries"]
        if "lineage" in entry
    ]
    origins = {column["columnName"]: column["columnDeps"] for column in lineage}
    assert {"columnName": "dest", "assetKey": {"path": ["intermediate", "int_flights"]}} in origins[
        "arrival_airport"
    ]


def test_the_evaluation_shows_its_pictures_in_the_metadata(page: Page, dagster_ui: str) -> None:
    page.goto(f"{dagster_ui}/assets/flight_delay/evaluation?view=events")
    expect(page.get_by_text("test_roc_auc", exact=True).first).to_be_visible()
    pictures = page.get_by_text("[Show Markdown]", exact=True)
    assert pictures.count() == 3
    pictures.first.click()
    picture = page.get_by_role("dialog").locator("img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("img => img.complete && img.naturalWidth > 0")
