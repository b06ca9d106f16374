"""A real Chromium, and the servers it looks at, over a copy of the demo's home."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from mlops_assets.orchestration.instance import dagster_environment
from tests.browser.chromium import LAUNCH_ARGUMENTS, ensure
from tests.demo import Demo
from tests.servers import free_port, serving

UPDATE_SCREENSHOTS = "MLOPS_UPDATE_SCREENSHOTS"
_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_MOST_BYTES = 400_000
# How long Playwright waits for what should be seen; a deadline, nothing is timed.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)

Keep = Callable[[Page, str], Path]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = ensure()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(LAUNCH_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page of a person who was never here before; what it showed last is kept as a picture."""
    context = browser.new_context(
        viewport={"width": 1480, "height": 1000}, timezone_id="UTC", locale="en-GB"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    yield page
    page.screenshot(path=tmp_path / "last-seen.png")
    context.close()


@pytest.fixture(scope="module")
def dagster_ui(demo_copy: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Dagster's UI over the demo, started as ``mlops up`` starts it; gives its address."""
    settings, port = demo_copy.settings, free_port()
    before = dict(os.environ)
    environment = {**dagster_environment(settings), **demo_copy.environment}
    assert dict(os.environ) == before
    address = f"http://127.0.0.1:{port}"
    workspace = settings.project_root / "workspace.yaml"
    with serving(
        [
            *(sys.executable, "-m", "dagster", "dev", "--workspace", workspace),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        environment,
        ready=f"{address}/server_info",
        log=tmp_path_factory.mktemp("dagster") / "log",
    ):
        yield address


@pytest.fixture(scope="module")
def mlflow_ui(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own UI over the demo's store, started as ``mlops up`` starts it."""
    settings, port = demo.settings, free_port()
    address = f"http://127.0.0.1:{port}"
    with serving(
        [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--backend-store-uri", settings.tracking_uri),
            *("--artifacts-destination", settings.artifact_uri),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        demo.environment,
        ready=f"{address}/health",
        log=tmp_path_factory.mktemp("mlflow") / "log",
    ):
        yield address


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Take a picture of what is seen; it goes to the documentation when that is asked for."""

    def keep_screenshot(page: Page, name: str) -> Path:
        path = tmp_path / f"{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size < _MOST_BYTES, "too heavy for a documentation page"
        if re.fullmatch("1|true|yes", os.environ.get(UPDATE_SCREENSHOTS, "")):
            _IMAGES.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, _IMAGES / path.name)
        return path

    return keep_screenshot
