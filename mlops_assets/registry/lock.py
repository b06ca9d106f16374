"""One writer at a time per family: promotion and rollback hold this lock."""

from contextlib import AbstractContextManager
from pathlib import Path

from mlops_assets.file_lock import file_lock
from mlops_assets.registry.errors import PromotionError


def family_lock(
    folder: Path, family: str, *, timeout: float = 30.0
) -> AbstractContextManager[None]:
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
        On entering, when another process still holds it after that time, or the folder cannot be
        written.
    """
    path = folder / f"{family}.lock"
    return file_lock(
        path,
        timeout=timeout,
        error=PromotionError,
        when_held=f"{family}: another promotion or rollback has held {path} for {timeout:g} s; "
        "try again when it is done",
    )
