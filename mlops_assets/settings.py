"""Every knob of the platform, typed, in one place.

A value comes from the environment (prefix ``MLOPS_``), else from a ``.env`` file in the project,
else from the default below. Nothing else in the package reads the environment. What belongs to
one model or one table is declared in its YAML, not here.
"""

import os
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "MLOPS_"
_PACKAGE_PARENT = Path(__file__).resolve().parents[1]


class SettingsError(ValueError):
    """A setting is wrong. The message names the variable, the value and what is allowed."""


class Executor(StrEnum):
    """How the steps of one Dagster run are executed."""

    in_process = "in_process"
    multiprocess = "multiprocess"


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
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
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
    dagster_home: Path = Field(
        default=Path("dagster"),
        description="Dagster's instance folder; a relative path counts from HOME.",
    )
    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?(KiB|MiB|GiB|TiB|KB|MB|GB|TB)$")] = (
        Field(default="4GiB", description="Memory one DuckDB session may use before it spills.")
    )
    threads: int = Field(
        default_factory=_cores,
        ge=1,
        le=1024,
        description="Threads for DuckDB and for training. Default: the cores this process may use.",
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

    def model_post_init(self, _context: Any, /) -> None:
        """Resolve the paths that default to places under ``home``."""
        home = (self.project_root / self.home).resolve()
        resolved = {
            "project_root": self.project_root.resolve(),
            "home": home,
            "lake_uri": self.lake_uri or str(home / "lake"),
            "tracking_uri": self.tracking_uri or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
            "artifact_uri": self.artifact_uri or (home / "mlflow" / "artifacts").as_uri(),
            "dagster_home": (home / self.dagster_home).resolve(),
        }
        for name, value in resolved.items():
            object.__setattr__(self, name, value)  # the model is frozen for everybody else

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
    """Read the settings from the environment.

    Parameters
    ----------
    **overrides
        Values that win over the environment, by field name. Tests and commands use them.

    Raises
    ------
    SettingsError
        Naming each wrong variable, its value and what is allowed.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'.'.join(str(part) for part in problem['loc']).upper()}"
            f"={problem['input']!r}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        allowed = "\n".join(
            f"  {PREFIX}{name.upper()}: {field.description}"
            for name, field in Settings.model_fields.items()
            if any(f"{PREFIX}{name.upper()}=" in line for line in lines)
        )
        raise SettingsError("\n".join([*lines, "Allowed:", allowed])) from error


@cache
def current_settings() -> Settings:
    """Return this process's settings, read once."""
    return load_settings()
