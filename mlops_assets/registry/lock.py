"""One writer at a time per family: promotion and rollback hold this lock."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_assets.registry.errors import PromotionError


@contextmanager
def family_lock(folder: Path, family: str, *, timeout: float = 30.0) -> Iterator[None]:
    """Hold the family's lock; the system releases it if the process dies.

    Parameters
    ----------
    folder
        Where lock files live; shared by all processes of the deployment.
    family
        Which family.
    timeout
        Seconds to wait for another holder.

    Raises
    ------
    PromotionError
        When another process still holds it after that time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{family}.lock"
    with path.open("a") as handle:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise PromotionError(
                        f"{family}: another promotion or rollback has held {path} for "
                        f"{timeout:g} s; try again when it is done"
                    ) from None
                time.sleep(0.05)
        yield
