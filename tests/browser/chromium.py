"""Finds a Chromium for the browser tests, or installs one; never lets them be skipped.

Run as ``python -m tests.browser.chromium`` it prints the path. In order: the one that
``CHROMIUM_PATH`` names, Playwright's own, one on the machine, Playwright's download, Debian's
package.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_DOWNLOAD_SECONDS = 300

# Chromium in a container, as root, on a network where nothing outside answers.
LAUNCH_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find() -> Path | None:
    """Return the Chromium that is already here."""
    named = os.environ.get("CHROMIUM_PATH")
    if named:
        if not Path(named).exists():
            raise SystemExit(f"CHROMIUM_PATH={named} does not exist")
        return Path(named)
    candidates = [_playwrights_own(), *(shutil.which(name) for name in _NAMES)]
    return next((Path(path) for path in candidates if path and Path(path).exists()), None)


def _playwrights_own() -> str:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def install() -> None:
    """Install a Chromium by Playwright, or by Debian's package where that download is closed."""
    by_playwright = [sys.executable, "-m", "playwright", "install", "chromium"]
    # Debian's package comes first where it can be had: a closed network lets Playwright's download
    # hang for minutes before it fails.
    if shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        if (
            subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False).returncode
            == 0
        ):
            return
    try:
        subprocess.run(by_playwright, check=True, timeout=_DOWNLOAD_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SystemExit(
            f"No Chromium on this machine, and it could not be installed ({error}). Install one, "
            "for instance with `sudo apt-get install chromium`, or name it in CHROMIUM_PATH."
        ) from error


def ensure() -> Path:
    """Return a Chromium, installing it if need be."""
    found = find()
    if found is None:
        install()
        found = find()
    if found is None:
        raise SystemExit("Chromium was installed but cannot be found; name it in CHROMIUM_PATH.")
    return found


if __name__ == "__main__":
    print(ensure())
