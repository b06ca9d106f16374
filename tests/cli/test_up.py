"""``mlops up`` starts both servers, and Ctrl-C stops them and all that they started."""

import subprocess
from pathlib import Path

import psutil
import pytest

from tests.demo import MLOPS, environment_of
from tests.servers import answers, family_of, free_port, stop, wait_until


@pytest.mark.timeout(300)
def test_both_servers_start_and_ctrl_c_stops_them(home: Path, tmp_path: Path) -> None:
    ports = {"dagster": free_port(), "mlflow": free_port()}
    urls = {
        "dagster": f"http://127.0.0.1:{ports['dagster']}/server_info",
        "mlflow": f"http://127.0.0.1:{ports['mlflow']}/health",
    }
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *MLOPS,
                "up",
                *("--dagster-port", str(ports["dagster"]), "--mlflow-port", str(ports["mlflow"])),
            ],
            env=environment_of(home),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for name, url in urls.items():
            wait_until(lambda url=url: process.poll() is not None or answers(url), f"{name} is up")
        assert process.poll() is None, log.read_text()[-4000:]
        family = family_of(process.pid)
    finally:
        left = stop(process)

    assert left == []
    assert process.returncode == 0
    assert len(family) > 4  # the webserver, the daemon, the code server and MLflow among them
    assert [found for found in family if _runs(found)] == []
    assert not any(map(answers, urls.values()))
    said = log.read_text()
    for port in ports.values():
        assert f"http://127.0.0.1:{port}" in said


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
