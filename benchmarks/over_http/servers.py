"""The servers that are compared: how each is installed, started, asked and stopped.

Ours runs as a user runs it, `mlops serve` with one worker, its follower beside it, a token, the
contract, metrics and the inference log. Each peer runs with one worker process in an environment
of its own, answers with the model called by `bare/serving_model.py`, and does nothing else; MLflow
is ours' own dependency, and runs its own way. Answers are compared before anything is timed.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
from over_http.load import ask, http_request
from over_http.world import DECIMALS, FAMILY, World

if TYPE_CHECKING:
    import pandas as pd

_BENCHMARKS = Path(__file__).resolve().parents[1]
_PEERS = _BENCHMARKS / ".peers"
_READY_S = 90.0
_LOOK_S = 0.005
_GRACE_S = 15.0
_SAME = 1e-6
_CATBOOST = "catboost==1.2.10"
_FLOOR = ("uvicorn[standard]==0.54.0", "granian==2.8.7", "orjson==3.13.0", _CATBOOST)
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"


class ServerError(RuntimeError):
    """A server cannot be installed or started, or does not answer as the model does."""


# Bodies: from a frame to the bytes that a server reads, and back to its answers


@dataclass(frozen=True)
class Form:
    """A way to ask.

    Attributes
    ----------
    path, content_type
        Of the request.
    body
        Makes the body of a request for rows.
    answers
        Reads the model's answers out of the body of an answer.
    """

    path: str
    content_type: str
    body: Callable[["pd.DataFrame"], bytes]
    answers: Callable[[bytes], Sequence[float]]


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = _written(frame).to_dict("records")
    return records


def _written(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the numbers as JSON has them: with their few digits, not those of their floats."""
    numbers = frame.select_dtypes("float32").astype("float64").round(DECIMALS)
    return frame.assign(**{name: numbers[name] for name in numbers})


def _json_rows(frame: "pd.DataFrame") -> bytes:
    return msgspec.json.encode({"rows": _records(frame)})


def _json_columns(frame: "pd.DataFrame") -> bytes:
    return msgspec.json.encode({"columns": _written(frame).astype(object).to_dict("list")})


def _arrow(frame: "pd.DataFrame") -> bytes:
    plain = {
        name: frame[name].astype(object) if frame[name].dtype == "category" else frame[name]
        for name in frame.columns
    }
    table = pa.table({name: pa.array(values.to_numpy()) for name, values in plain.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _mlflow_split(frame: "pd.DataFrame") -> bytes:
    return (
        _written(frame)
        .to_json(orient="split", index=False)
        .join(('{"dataframe_split":', "}"))
        .encode()
    )


def _v2(frame: "pd.DataFrame") -> bytes:
    written = _written(frame)
    inputs = [
        {
            "name": name,
            "shape": [len(frame)],
            "datatype": "BYTES" if frame[name].dtype == "category" else "FP32",
            "data": written[name].tolist(),
        }
        for name in frame.columns
    ]
    return msgspec.json.encode({"inputs": inputs})


def _plain_answers(body: bytes) -> Sequence[float]:
    answers: list[float] = json.loads(body)["predictions"]
    return answers


def _our_rows(body: bytes) -> Sequence[float]:
    return [each["probability"] for each in json.loads(body)["predictions"]]


def _our_columns(body: bytes) -> Sequence[float]:
    answers: list[float] = json.loads(body)["predictions"]["probability"]
    return answers


def _our_arrow(body: bytes) -> Sequence[float]:
    answers: list[float] = pa.ipc.open_stream(body).read_all()["probability"].to_pylist()
    return answers


def _v2_answers(body: bytes) -> Sequence[float]:
    answers: list[float] = json.loads(body)["outputs"][0]["data"]
    return answers


def _our(content_type: str, body: Any, answers: Any) -> Form:
    return Form(f"/models/{FAMILY}/predict", content_type, body, answers)


OUR_FORMS: Mapping[str, Form] = {
    "JSON rows": _our(JSON, _json_rows, _our_rows),
    "JSON columns": _our(JSON, _json_columns, _our_columns),
    "Arrow": _our(ARROW, _arrow, _our_arrow),
}


# Servers


@dataclass(frozen=True)
class Server:
    """One of the servers.

    Attributes
    ----------
    name
        As the tables show it.
    forms
        How it can be asked, by name; the first is its own way for one row.
    command
        Starts it on a port.
    environment
        Variables of its process, added to this one's.
    headers
        Of every request.
    requires
        What to install in its environment; nothing for what runs in ours.
    classes
        Whether it answers with classes, as MLflow's server does, instead of probabilities.
    """

    name: str
    forms: Mapping[str, Form]
    command: Callable[[int], Sequence[str | Path]]
    environment: Mapping[str, str]
    headers: Mapping[str, str]
    requires: tuple[str, ...] = ()
    classes: bool = False

    def request(self, port: int, form: str, frame: "pd.DataFrame") -> bytes:
        """Return a request for the rows of a frame."""
        asked = self.forms[form]
        body = asked.body(frame)
        return http_request(port, asked.path, body, asked.content_type, self.headers)


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes
    ----------
    server
        Which.
    port
        Where, on 127.0.0.1.
    process
        The one that was started; the others are its descendants.
    cold_start_s
        Seconds from the start of the process to its first answer.
    """

    server: Server
    port: int
    process: "subprocess.Popen[bytes]"
    cold_start_s: float

    def cpu_seconds(self) -> float:
        """CPU seconds so far of all processes of the server that are alive."""
        ticks = os.sysconf("SC_CLK_TCK")
        return sum(_cpu_ticks(pid) for pid in _family_of(self.process.pid)) / ticks

    def resident_mb(self) -> float:
        """Memory of all its processes now, in MiB; what they share is counted for each."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(_resident_pages(pid) for pid in _family_of(self.process.pid)) * page / (1 << 20)


def servers(world: World) -> list[Server]:
    """Return ours, the floor and the peers."""
    bare = {
        "BENCHMARK_MODEL_FOLDER": str(world.bare),
        "PYTHONPATH": os.pathsep.join(map(str, (_BENCHMARKS / "bare", _BENCHMARKS / "peers"))),
    }
    bin_ = Path(sys.executable).parent
    rows = _our(JSON, _json_rows, _plain_answers)

    def plain(path: str) -> Mapping[str, Form]:
        return {"JSON rows": Form(path, JSON, rows.body, _plain_answers)}

    return [
        Server(
            "**mlops serve**",
            OUR_FORMS,
            lambda port: (bin_ / "mlops", "serve", "--port", str(port), "--workers", "1"),
            {"MLOPS_HOME": str(world.home)},
            {"Authorization": f"Bearer {world.secret}"},
        ),
        Server(
            "raw ASGI, uvicorn",
            plain("/"),
            lambda port: (
                *(_PEERS / "raw" / "bin" / "uvicorn", "serving_raw:app", "--port", str(port)),
                *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
                *("--log-level", "warning", "--lifespan", "off"),
            ),
            bare,
            {},
            _FLOOR,
        ),
        Server(
            "raw ASGI, granian",
            plain("/"),
            lambda port: (
                *(_PEERS / "raw" / "bin" / "granian", "serving_raw:app"),
                *("--interface", "asginl", "--host", "127.0.0.1", "--port", str(port)),
                *("--workers", "1", "--loop", "uvloop", "--no-ws", "--log-level", "warning"),
            ),
            bare,
            {},
            _FLOOR,
        ),
        Server(
            "mlflow models serve",
            {"JSON rows": Form("/invocations", JSON, _mlflow_split, _plain_answers)},
            lambda port: (
                *(bin_ / "mlflow", "models", "serve", "--model-uri", world.mlflow),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--workers", "1", "--env-manager", "local"),
            ),
            {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"},
            {},
            classes=True,
        ),
        Server(
            "BentoML 1.4",
            plain("/predict"),
            lambda port: (
                *(_PEERS / "bentoml" / "bin" / "bentoml", "serve", "serving_bentoml:Predictions"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ),
            bare | {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(world.folder / "bentoml")},
            {},
            ("bentoml>=1.4,<1.5", _CATBOOST),
        ),
        Server(
            "LitServe 0.2",
            plain("/predict"),
            lambda port: (
                _PEERS / "litserve" / "bin" / "python",
                _BENCHMARKS / "peers" / "serving_litserve.py",
                str(port),
            ),
            bare,
            {},
            ("litserve>=0.2,<0.3", _CATBOOST),
        ),
        Server(
            "MLServer 1.7",
            {"JSON rows": Form("/v2/models/predictions/infer", JSON, _v2, _v2_answers)},
            lambda port: (
                *(_PEERS / "mlserver" / "bin" / "mlserver", "start"),
                _mlserver_folder(world.folder / "mlserver", port),
            ),
            bare,
            {},
            ("mlserver>=1.7,<1.8", _CATBOOST),
        ),
        Server(
            "Ray Serve 2.60",
            plain("/"),
            lambda port: (
                _PEERS / "ray" / "bin" / "python",
                _BENCHMARKS / "peers" / "serving_ray.py",
                str(port),
            ),
            bare | {"RAY_USAGE_STATS_ENABLED": "0"},
            {},
            ("ray[serve]==2.60.0", _CATBOOST),
        ),
    ]


def _mlserver_folder(folder: Path, port: int) -> Path:
    """Write what MLServer reads instead of options."""
    folder.mkdir(exist_ok=True)
    model = {"name": "predictions", "implementation": "serving_mlserver.Predictions"}
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def install(server: Server) -> None:
    """Make a peer's environment, unless it stands already.

    Raises
    ------
    ServerError
        When it cannot be installed here.
    """
    if not server.requires:
        return
    environment = Path(server.command(0)[0]).parents[1]
    stamp = environment / "installed"
    wanted = "\n".join(server.requires)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise ServerError("uv is not installed; it makes the environments: pip install uv")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    steps: list[tuple[str | Path, ...]] = [
        (uv, "venv", "--quiet", "--clear", "--python", version, environment),
        (
            *(uv, "pip", "install", "--quiet", "--compile-bytecode"),
            *("--python", environment / "bin" / "python", *server.requires),
        ),
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    stamp.write_text(wanted, encoding="utf-8")


@contextmanager
def running(server: Server, world: World) -> Iterator[Running]:
    """Start a server, wait for its first answer, and stop it with all of its processes.

    Raises
    ------
    ServerError
        When it does not answer.
    """
    port = free_port()
    log = world.folder / "server.log"
    form = next(iter(server.forms))
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in server.command(port)],
            env={**os.environ, **server.environment},
            cwd=world.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # not a session, which would have a priority of its own
        )
        try:
            request = server.request(port, form, world.ones[0])
            while not _answers(port, request):
                if process.poll() is not None or time.perf_counter() - begun > _READY_S:
                    said = log.read_text(errors="replace").strip().splitlines()[-3:]
                    raise ServerError(f"does not answer: {' | '.join(said)[:300]}")
                time.sleep(_LOOK_S)
            yield Running(server, port, process, time.perf_counter() - begun)
        finally:
            _stop(process)


def check(found: Running, world: World) -> None:
    """See that a server answers as the model does.

    Raises
    ------
    ServerError
        When it does not.
    """
    for name, form in found.server.forms.items():
        for frame in (world.ones[1], world.batches[1]):
            status, body = ask(found.port, found.server.request(found.port, name, frame))
            if status != 200:
                raise ServerError(f"{name}: answers {status}: {body[:300]!r}")
            answers = np.array(form.answers(body), float)
            expected = np.array(world.answers)[frame.index]
            if found.server.classes:
                expected = (expected > 0.5).astype(float)
            if len(answers) != len(expected) or np.abs(answers - expected).max() > _SAME:
                raise ServerError(f"{name}: answers otherwise than the model, by more than {_SAME}")


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def _answers(port: int, request: bytes) -> bool:
    try:
        return ask(port, request)[0] == 200
    except OSError:
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask a server to end; end whichever of its processes has not after a while."""
    every = _family_of(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in every[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _family_of(pid: int) -> list[int]:
    """Return a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; none for a process that ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _resident_pages(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) if fields else 0
