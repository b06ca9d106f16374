"""Every knob of the platform, typed, in one place.

A value comes from the environment (prefix ``MLOPS_``), else from the file ``.env`` in the project
root, wherever the command runs, else from the default below. Nothing else in the package reads the
environment. What belongs to one model or one table is declared in its YAML, not here.
"""

import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from dotenv.parser import parse_stream
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableSettingError

from mlops_assets.declaration import allowed_values, did_you_mean, without_secrets

PREFIX = "MLOPS_"
ONLINE_STORE_SCHEMES = ("redis", "rediss", "unix")
"""How the URL of an online store that is no file begins."""

_PACKAGE_PARENT = Path(__file__).resolve().parents[1]


class SettingsError(ValueError):
    """A setting is wrong. The message names the variable, its value and where that came from."""


class Executor(StrEnum):
    """How the steps of one Dagster run are executed."""

    in_process = "in_process"
    multiprocess = "multiprocess"


class WhenLogFull(StrEnum):
    """What to do with answers that cannot be logged."""

    refuse = "refuse"
    serve = "serve"


class ServeLimits(BaseModel):
    """Limits of one worker process of the model server.

    Attributes
    ----------
    body_bytes
        Largest body of a request.
    arrow_body_bytes
        Largest body of a request that sends an Arrow stream.
    buffered_bytes
        Most bytes of bodies held at the same time, over all requests.
    batch_rows
        Most rows of one request.
    in_flight
        Most requests answered at the same time; what comes beyond is told to come back.
    requests_per_second
        Of one caller, in each worker; none is no limit.
    burst
        Requests a caller may make at once after a pause, before that rate holds.
    body_seconds
        Longest a body may take to arrive.
    answer_seconds
        Longest an answer may take after that.
    idle_seconds
        Longest a connection may be open without sending a whole head of a request.
    connections
        Most connections open at the same time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: Annotated[int, Field(ge=1024)] = 8 << 20
    arrow_body_bytes: Annotated[int, Field(ge=1024)] = 64 << 20
    buffered_bytes: Annotated[int, Field(ge=1024)] = 256 << 20
    batch_rows: Annotated[int, Field(ge=1)] = 100_000
    in_flight: Annotated[int, Field(ge=1)] = 256
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] = 50
    body_seconds: Annotated[float, Field(gt=0)] = 10.0
    answer_seconds: Annotated[float, Field(gt=0)] = 30.0
    idle_seconds: Annotated[float, Field(gt=0)] = 15.0
    connections: Annotated[int, Field(ge=1)] = 1_000


class DuckDBLimits(BaseModel):
    """What one DuckDB session may use.

    Attributes
    ----------
    memory_limit
        Memory before DuckDB spills to ``scratch``, such as ``4GiB``.
    threads
        Worker threads.
    scratch
        Folder for spilled data and staged files; emptied by whoever filled it.
    """

    model_config = ConfigDict(frozen=True)

    memory_limit: str
    threads: int
    scratch: Path


def _cores() -> int:
    """Cores this process may run on, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """The deployment's settings; see each field's description and ``docs/reference/settings.md``.

    Raises
    ------
    SettingsError
        From `load_settings`, when a variable has a value that is not allowed.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    project_root: Path = Field(
        default=_PACKAGE_PARENT,
        description="Folder that holds dbt_project/ and workspace.yaml.",
    )
    home: Path = Field(
        default=Path(".mlops"),
        description="Folder of all local state; a relative path counts from the project root.",
    )
    lake_uri: str = Field(
        default="",
        description="Root of the Delta lake: a folder or an object-store URL. Default: HOME/lake.",
    )
    lake_storage_options: dict[str, str] = Field(
        default_factory=dict,
        description="Object-store options for the lake, as JSON; see delta-rs storage options.",
        repr=False,  # may hold credentials
    )
    tracking_uri: str = Field(
        default="",
        description="MLflow tracking and registry URI. Default: SQLite in HOME/mlflow.",
    )
    artifact_uri: str = Field(
        default="",
        description="Where MLflow keeps artifacts. Default: HOME/mlflow/artifacts.",
    )
    studies_uri: str = Field(
        default="",
        description="Where searches are kept: a folder, or a database URL. Default: HOME/studies.",
    )
    online_store_url: str = Field(
        default="",
        description="Where latest feature values are served from: a file, or the URL of a Redis "
        "(redis://, rediss://, unix://). Default: HOME/online/store.db.",
        repr=False,  # may hold a password
    )
    search_trials: int | None = Field(
        default=None,
        ge=1,
        description="Most trials of a search, where less than declared. Default: as declared.",
    )
    dagster_home: Path = Field(
        default=Path("dagster"),
        description="Dagster's instance folder; a relative path counts from HOME.",
    )
    ui_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="Where people reach Dagster's UI; alerts link to it. Default: no links.",
        examples=["https://dagster.example.com"],
    )
    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?(KiB|MiB|GiB|TiB|KB|MB|GB|TB)$")] = (
        Field(
            default="4GiB",
            description="Memory one DuckDB session may use before it spills.",
            examples=["4GiB", "512MiB"],
        )
    )
    threads: int = Field(
        default_factory=_cores,
        ge=1,
        le=1024,
        description="Threads for DuckDB and for training. Default: the cores this process may use.",
    )
    serve_host: str = Field(
        default="127.0.0.1",
        description="Address the model server listens on; any but loopback needs tokens.",
    )
    serve_port: int = Field(
        default=8000, ge=0, le=65535, description="Port of the model server; 0 takes a free one."
    )
    serve_workers: int = Field(
        default_factory=_cores,
        ge=1,
        le=256,
        description="Worker processes of the model server. Default: the cores it may use.",
    )
    serve_limits: ServeLimits = Field(
        default=ServeLimits(),
        description="Limits of each worker of the model server, as JSON; those not named keep "
        "their defaults. See the class ServeLimits.",
        examples=['{"in_flight": 64, "requests_per_second": 20}'],
    )
    serve_when_log_full: WhenLogFull = Field(
        default=WhenLogFull.refuse,
        description="What to do with answers that cannot be logged, such as on a full disk: refuse "
        "them, or serve and count them.",
    )
    serve_log_folder: Path = Field(
        default=Path("inference"),
        description="Folder of the inference log, on a local disk, until its predictions are rows "
        "of the lake; a relative path counts from HOME.",
    )
    serve_log_sync_seconds: float = Field(
        default=0.2,
        gt=0,
        le=60,
        description="Longest time, in seconds, until an answer in the inference log survives the "
        "loss of power. The death of a process loses none.",
    )
    serve_log_segment_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="Longest time, in seconds, until an answer in the inference log can be shipped "
        "to the lake.",
    )
    serve_ray_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the deployment under `mlops serve --engine ray`, as JSON, named as "
        "Ray Serve names them. Default: one replica of one core, and up to 16 under load.",
        examples=['{"num_replicas": 4}', '{"autoscaling_config": {"min_replicas": 2}}'],
    )
    ray_address: str = Field(
        default="",
        description="Address of a Ray cluster: auto for the one this machine is part of, or "
        "HOST:PORT. Default: a Ray of this machine alone, which ends with the command.",
    )
    executor: Executor = Field(
        default=Executor.in_process,
        description="in_process for one machine, multiprocess to isolate and parallelise steps.",
    )
    seed: int = Field(
        default=20130101, ge=0, le=2**31 - 1, description="Seed of everything that draws numbers."
    )

    @field_validator("home", mode="after")
    @classmethod
    def _no_file_as_home(cls, value: Path) -> Path:
        if value.is_file():
            raise ValueError("is a file; name a folder")
        return value

    @field_validator("online_store_url", mode="after")
    @classmethod
    def _a_known_store(cls, value: str) -> str:
        scheme, is_url, _ = value.partition("://")
        if is_url and scheme not in ONLINE_STORE_SCHEMES:
            raise ValueError(
                f"begins with {scheme}://; write a path of a file, or a URL that begins with "
                f"{', '.join(f'{known}://' for known in ONLINE_STORE_SCHEMES)}"
            )
        return value

    def model_post_init(self, _context: Any, /) -> None:
        """Resolve the paths that default to places under ``home``."""
        home = (self.project_root / self.home).resolve()
        resolved = {
            "project_root": self.project_root.resolve(),
            "home": home,
            "lake_uri": self.lake_uri or str(home / "lake"),
            "tracking_uri": self.tracking_uri or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
            "artifact_uri": self.artifact_uri or (home / "mlflow" / "artifacts").as_uri(),
            "studies_uri": self.studies_uri or str(home / "studies"),
            "online_store_url": self._online_store(home),
            "dagster_home": (home / self.dagster_home).resolve(),
            "serve_log_folder": (home / self.serve_log_folder).resolve(),
        }
        for name, value in resolved.items():
            object.__setattr__(self, name, value)  # the model is frozen for everybody else

    def _online_store(self, home: Path) -> str:
        if "://" in self.online_store_url:
            return self.online_store_url
        return str(home / (self.online_store_url or "online/store.db"))

    @property
    def dbt_project_dir(self) -> Path:
        """Folder of the dbt project."""
        return self.project_root / "dbt_project"

    @property
    def duckdb(self) -> DuckDBLimits:
        """Limits of every DuckDB session of this deployment."""
        return DuckDBLimits(
            memory_limit=self.memory_limit, threads=self.threads, scratch=self.home / "scratch"
        )


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment and the project's ``.env``.

    Parameters
    ----------
    **overrides
        Values that win over both, by field name. Tests and commands use them.

    Raises
    ------
    SettingsError
        Naming each wrong variable, its value, where that came from, and what is allowed.
    """
    origins = _Origins(overrides)
    try:
        return Settings(_env_file=origins.env_file, **overrides)
    except ValidationError as error:
        problems = {str(p["loc"][0]): p["msg"] for p in error.errors(include_url=False)}
    except UnreadableSettingError as error:
        # It names one field, which is not JSON; there is no other way to learn which one.
        [name] = [name for name in Settings.model_fields if f'"{name}"' in str(error)]
        problems = {name: "Value error, is not JSON"}
    raise SettingsError("\n".join(_explain(name, problems[name], origins) for name in problems))


def unknown_variables(project_root: Path) -> dict[str, str]:
    """Find variables with our prefix that nothing reads, in the environment and in ``.env``.

    Parameters
    ----------
    project_root
        Folder whose ``.env`` is looked at.

    Returns
    -------
    dict
        Name to where it stands, with the nearest valid name.
    """
    origins = _Origins({"project_root": project_root})
    known = [_variable(name) for name in Settings.model_fields]
    given = {name for name in os.environ if name.upper().startswith(PREFIX)}
    given |= {name for name in origins.lines if name.upper().startswith(PREFIX)}
    return {
        name: f"{origins.of(name)}{did_you_mean(name.upper(), known)}"
        for name in sorted(given)
        if name.upper() not in known
    }


class _Origins:
    """Where the values of settings come from.

    Attributes
    ----------
    env_file
        The project's ``.env``, which need not exist.
    lines
        Variable, as it is written there, to its line in that file.
    """

    def __init__(self, overrides: Mapping[str, Any]) -> None:
        self._overrides = overrides
        root = overrides.get("project_root") or os.environ.get(_variable("project_root"))
        self.env_file = Path(root or _PACKAGE_PARENT).resolve() / ".env"
        self.lines: dict[str, int] = {}
        self.values: dict[str, str] = {}
        if self.env_file.is_file():
            for binding in parse_stream(StringIO(self.env_file.read_text("utf-8"))):
                if binding.key is not None:
                    text = binding.original.string  # with the empty lines before it
                    empty = text[: len(text) - len(text.lstrip())].count("\n")
                    self.lines[binding.key] = binding.original.line + empty
                    self.values[binding.key] = binding.value or ""

    def of(self, variable: str) -> str:
        """Say where a variable's value comes from; what comes first here wins."""
        if variable.removeprefix(PREFIX).lower() in self._overrides:
            return "from the caller"
        if _same(variable, _environment()):
            return "from the environment"
        if name := _same(variable, self.lines):
            return f"from line {self.lines[name]} of {self.env_file}"
        return "the default"

    def value(self, variable: str) -> str:
        """Show the value of a variable as it was written."""
        field = variable.removeprefix(PREFIX).lower()
        if field in self._overrides:
            return repr(str(self._overrides[field]))
        if name := _same(variable, _environment()):
            return repr(os.environ[name])
        return repr(self.values[_same(variable, self.lines)])


def _explain(name: str, message: str, origins: _Origins) -> str:
    field, variable = Settings.model_fields[name], _variable(name)
    value = origins.value(variable) if field.repr else "(not shown, it may hold a secret)"
    _, own, reason = message.rpartition("Value error, ")
    wrong = reason if own else "is not allowed"
    return without_secrets(
        f"{variable}={value} ({origins.of(variable)}) {wrong}. Allowed: {allowed_values(field)}.\n"
        f"  {field.description}"
    )


def _variable(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


def _environment() -> list[str]:
    """Name the variables that are set; an empty one counts as none."""
    return [name for name, value in os.environ.items() if value]


def _same(variable: str, names: Iterable[str]) -> str:
    """Find a variable as it was written, in any case; an empty text if it is not there."""
    return next((name for name in names if name.upper() == variable), "")


@cache
def current_settings() -> Settings:
    """Return this process's settings, read once."""
    return load_settings()
