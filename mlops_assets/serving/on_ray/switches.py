"""What a person switches once and every machine obeys: tokens, traffic, the end of a canary.

The files are those of the head. The keeper of another machine sends there what its replicas have
counted of canaries, and takes home what the files of the head say. So the counts of all machines
are judged together, and `mlops tokens`, `mlops shadow` and `mlops canary` are used on the head.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mlops_assets.serving.routing import Contest
from mlops_assets.serving.routing.router import FOLDER
from mlops_assets.serving.routing.traffic import FILE as TRAFFIC
from mlops_assets.serving.security.state_file import read_text, replace_text

TOKENS = "tokens.json"

Exchange = Callable[[Mapping[str, bytes]], Mapping[str, str]]
"""Takes what a machine has counted and returns the files of the head, both by name."""


class SwitchesOfHead:
    """Watches canaries by asking the head, which judges them.

    Parameters
    ----------
    folder
        The server's, of this machine.
    exchange
        Asks the head. Raises `StateFileError` where it cannot be asked.
    """

    def __init__(self, folder: Path, exchange: Exchange) -> None:
        self._folder = folder
        self._exchange = exchange
        self._sent: dict[str, int] = {}

    def look(self, _: Iterable[Contest]) -> None:
        """Send what was counted since the last time, and do as the head says.

        Raises
        ------
        StateFileError
            When the head cannot be asked, or a file cannot be written; all stays as it was.
        """
        changed = {}
        for path in (self._folder / FOLDER).glob("*/*/*"):
            name, at = str(path.relative_to(self._folder)), path.stat().st_mtime_ns
            if self._sent.get(name) != at:
                changed[name] = at
        counted = {name: (self._folder / name).read_bytes() for name in changed}
        for name, text in self._exchange(counted).items():
            if read_text(self._folder / name) != text:
                replace_text(self._folder / name, text)
        self._sent |= changed


def take_counts(folder: Path, counts: Mapping[str, bytes]) -> None:
    """Put what another machine has counted beside what was counted here.

    Each worker counts in a file whose name nobody else has, so that a file may come again.
    """
    for name, content in counts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def switches(folder: Path) -> Mapping[str, str]:
    """Return the files that hold everywhere, by name; those that are not there are left out.

    Raises
    ------
    StateFileError
        When one cannot be read.
    """
    texts = {name: read_text(folder / name) for name in (TOKENS, TRAFFIC)}
    return {name: text for name, text in texts.items() if text is not None}
