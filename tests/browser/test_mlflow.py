"""MLflow's own UI shows the models that the demo registered."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Keep

pytestmark = [pytest.mark.demo, pytest.mark.browser, pytest.mark.timeout(900)]


def test_the_registered_model_and_its_version_are_shown(
    page: Page, mlflow_ui: str, keep: Keep
) -> None:
    page.goto(f"{mlflow_ui}/#/models")
    page.get_by_role("link", name="flight_delay", exact=True).click()
    expect(page.get_by_text("Version 1", exact=True).first).to_be_visible()
    expect(page.get_by_text("champion").first).to_be_visible()
    page.screenshot(path="/tmp/e2e/mlf_a.png")
    keep(page, "model-registry")
