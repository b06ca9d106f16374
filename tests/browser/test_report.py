"""The evaluation report opens from its file, without a network."""

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Keep
from tests.demo import Demo

pytestmark = [pytest.mark.demo, pytest.mark.browser, pytest.mark.timeout(1800)]


def test_the_report_opens_offline_with_all_its_pictures(page: Page, demo: Demo, keep: Keep) -> None:
    requested: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.context.set_offline(True)
    page.set_viewport_size({"width": 1320, "height": 1400})
    page.goto((demo.home / "reports" / "flight_delay.html").as_uri())

    assert [url for url in requested if not url.startswith(("file:", "data:"))] == []
    assert problems == []
    pictures = page.locator("img")
    assert pictures.count() + page.locator("svg").count() >= 5
    assert all(pictures.evaluate_all("found => found.map(img => img.naturalWidth > 0)"))
    assert page.locator("h1, h2").count() >= 3
    keep(page, "evaluation-report")
