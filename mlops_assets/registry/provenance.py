"""What code and environment a model was made with."""

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mlops_assets.registry.errors import RegistryError

UNKNOWN = "unknown"

Environment = Mapping[str, str]
"""What a model was trained on: version of Python, kind of processor, version of each library."""

_DECISIVE = (
    "numpy", "scipy", "pandas", "pyarrow", "duckdb", "scikit-learn", "catboost", "torch", "tabm",
    "rtdl-num-embeddings",
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """What a run records beside its data, so that it can be done again.

    Attributes
    ----------
    git_commit
        Commit of the project, with `+changes` where tracked files differ; `unknown` outside git.
    lockfile_sha256
        Of the constraints file with every installed version; `unknown` where there is none.
    dbt_manifest_sha256
        Of the manifest that made the features; `unknown` where there is none.
    """

    git_commit: str
    lockfile_sha256: str
    dbt_manifest_sha256: str

    def tags(self) -> Mapping[str, str]:
        """Return the record as MLflow tags."""
        return {f"mlops.{name}": value for name, value in asdict(self).items()}


def collect_provenance(project_root: Path, dbt_manifest: Path | None = None) -> Provenance:
    """Read the provenance of the project as it stands.

    Parameters
    ----------
    project_root
        Folder with `constraints.txt` and, usually, a git checkout.
    dbt_manifest
        `manifest.json` of the dbt project.

    Raises
    ------
    RegistryError
        When a manifest is named that is not there, or git fails inside a checkout.
    """
    if dbt_manifest is not None and not dbt_manifest.is_file():
        raise RegistryError(f"no dbt manifest at {dbt_manifest}; run dbt parse first")
    lockfile = project_root / "constraints.txt"
    return Provenance(
        git_commit=_git_commit(project_root),
        lockfile_sha256=_sha256(lockfile) if lockfile.is_file() else UNKNOWN,
        dbt_manifest_sha256=_sha256(dbt_manifest) if dbt_manifest else UNKNOWN,
    )


def collect_environment() -> Environment:
    """Return the versions, here and now, of everything whose version can change a fit."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _DECISIVE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # what is not installed had no part in it
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git_commit(folder: Path) -> str:
    git = shutil.which("git")
    if git is None or not any((place / ".git").exists() for place in (folder, *folder.parents)):
        return UNKNOWN

    def run(*words: str) -> str:
        done = subprocess.run(  # noqa: S603  # fixed words, no shell
            [git, "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise RegistryError(f"git {' '.join(words)} in {folder}: {done.stderr.strip()}")
        return done.stdout.strip()

    if not run("for-each-ref", "--count=1") and not run("rev-list", "--all", "--max-count=1"):
        return UNKNOWN  # a checkout without its first commit
    commit = run("rev-parse", "HEAD")
    return f"{commit}+changes" if run("status", "--porcelain", "--untracked-files=no") else commit
