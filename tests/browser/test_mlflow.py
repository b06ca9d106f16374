"""MLflow's own UI shows the models that the demo registered."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Keep

pytestmark = [pytest.mark.demo, pytest.mark.browser, pytest.mark.timeout(1800)]


def test_the_registered_model_and_its_version_are_shown(
    page: Page, mlflow_ui: str, keep: Keep
) -> None:
    page.goto(f"{mlflow_ui}/#/models")
    page.get_by_role("button", name="Try it now").click()  # a window on the first visit
    page.get_by_role("link", name="flight_delay", exact=True).click()
    expect(page).to_have_url(f"{mlflow_ui}/#/models/flight_delay")
    expect(page.get_by_role("link", name="Version 1", exact=True)).to_be_visible()
    expect(page.get_by_text("champion").first).to_be_visible()
    page.get_by_role("button", name="Close").click()  # MLflow's assistant, beside the page
    expect(page.get_by_text("Ask questions about your experiments").first).to_be_hidden()
    keep(page, "model-registry")

    page.get_by_role("link", name="Version 1", exact=True).click()
    for told in ("mlops.algorithm", "mlops.training_set", "Inputs (", "Outputs (1)"):
        expect(page.get_by_text(told).first).to_be_attached()
