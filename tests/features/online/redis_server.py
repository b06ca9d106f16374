"""A real Redis for the tests of the online store; never lets them be skipped.

Run as ``python -m tests.features.online.redis_server`` it installs Debian's package where there is
no server yet, and prints the path. ``REDIS_SERVER_PATH`` names another one.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.servers import free_port, wait_until

PASSWORD = "not-to-be-shown"  # noqa: S105 - of a server that lives as long as a test
_HINT = (
    "Install one, for instance with `sudo apt-get install redis-server`, or name it in "
    "REDIS_SERVER_PATH."
)


def find() -> Path | None:
    """Return the Redis server that is already here."""
    named = os.environ.get("REDIS_SERVER_PATH")
    if named and not Path(named).exists():
        raise SystemExit(f"REDIS_SERVER_PATH={named} does not exist")
    found = named or shutil.which("redis-server")
    return Path(found) if found else None


def ensure() -> Path:
    """Return a Redis server, installing it if need be."""
    if find() is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "redis-server"], check=False)
    found = find()
    if found is None:
        raise SystemExit(f"No Redis server on this machine, and it could not be installed. {_HINT}")
    return found


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a server with a password for the length of the block, and give its URL."""
    server = find()
    if server is None:
        raise AssertionError(f"The online store's tests need a Redis server. {_HINT}")
    port = free_port()
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD]
    settings += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    with (
        (folder / "redis.log").open("w") as log,
        subprocess.Popen([server, *settings], stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            with redis.Redis.from_url(url) as client:
                wait_until(lambda: _answers(client), f"Redis on port {port} answers")
            yield url
        finally:
            process.terminate()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


if __name__ == "__main__":
    print(ensure())
