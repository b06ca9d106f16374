"""One prediction as a caller gets it: over HTTP, by key, with its explanation."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import Settings

_START_SECONDS = 120
_SHOWN = 5


class NoPredictionError(RuntimeError):
    """The model server did not start, or did not answer."""


@dataclass(frozen=True)
class LivePrediction:
    """A question and its answer.

    Attributes
    ----------
    family
        Whom it asked, and the question in words.
    question
        The question that the family answers.
    key
        Whom it is about.
    answer
        The body of the answer.
    """

    family: str
    question: str
    key: Mapping[str, Any]
    answer: Mapping[str, Any]

    def lines(self) -> Iterator[str]:
        """Say it in a few lines."""
        [prediction] = self.answer["predictions"]
        about = ", ".join(f"{name} {value}" for name, value in self.key.items())
        yield f"{self.question} ({about})"
        if "probability" in prediction:
            said = f"{prediction['probability']:.1%}"
            if "yes" in prediction:
                said += f", which counts as {'yes' if prediction['yes'] else 'no'}"
        elif "class" in prediction:
            said = prediction["class"]
        else:
            said = ", ".join(f"{name} {v:.1f}" for name, v in prediction["quantiles"].items())
        yield f"{self.answer['model']} answers: {said}. Prediction {prediction['id']}"
        explained = prediction["explanation"]
        yield f"Most of the {explained['of']} comes from:"
        for each in explained["contributions"][:_SHOWN]:
            value = each["value"]
            shown = (
                "missing" if value is None else f"{value:g}" if isinstance(value, float) else value
            )
            yield f"  {each['contribution']:+.3f}  {each['feature']} = {shown}"


def predict_once(settings: Settings, family: str) -> LivePrediction:
    """Start the model server, ask it about a late row of the family's spine, and stop it.

    Raises
    ------
    NoPredictionError
        When it does not start or does not answer.
    """
    with _server(settings) as url:
        described = _json(f"{url}/models/{family}")
        key = _late_key(settings, described)
        body = json.dumps({"entities": [key]}).encode()
        answer = _json(f"{url}/models/{family}/predict?explain=true", body)
    return LivePrediction(family, described["description"], key, answer)


def _late_key(settings: Settings, described: Mapping[str, Any]) -> dict[str, Any]:
    spine = described["spine"]
    table = TableName.parse(spine["table"])
    columns = ", ".join(f'"{name}"' for name in described["entity"])
    moment = f'"{spine["prediction_time"]}"'
    rows = f"SELECT * FROM {table.sql} WHERE {spine['filter'] or 'true'}"
    with Lake.from_settings(settings).connect(tables=[table]) as con:
        # A day before the newest: by then everything that is ever known of it has arrived.
        row = con.execute(
            f"""
            WITH scored AS ({rows})
            SELECT {columns} FROM scored
            WHERE {moment} <= (SELECT max({moment}) FROM scored) - INTERVAL 1 DAY
            ORDER BY {moment} DESC, {columns} LIMIT 1
            """
        ).fetchone()
    if row is None:
        raise NoPredictionError(f"{table} has less than a day of rows to ask about")
    return dict(zip(described["entity"], row, strict=True))


@contextmanager
def _server(settings: Settings) -> Iterator[str]:
    """Run the model server on a free port for the length of the block."""
    command = (
        *(sys.executable, "-m", "mlops_assets.cli.main", "serve"),
        *("--host", "127.0.0.1", "--port", "0", "--workers", "1"),
    )
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, text=True, env=_environment(settings)
    )
    try:
        if process.stdout is None:
            raise NoPredictionError("the model server has no output")
        url = process.stdout.readline().rpartition(" ")[2].strip()
        if not url.startswith("http"):
            raise NoPredictionError(f"the model server ended ({process.wait()}); see above")
        _wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    import os

    return {**os.environ, "MLOPS_HOME": str(settings.home)}


def _wait_until_ready(url: str, process: "subprocess.Popen[str]") -> None:
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise NoPredictionError(f"the model server ended ({process.returncode}); see above")
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise NoPredictionError(f"no model was served within {_START_SECONDS} s; look at {url}/ready")


def _json(url: str, body: bytes | None = None) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - loopback
        url, data=body, headers={"content-type": "application/json"} if body else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise NoPredictionError(f"{url}: {error.read().decode()}") from error
