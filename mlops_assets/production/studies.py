"""Where the searches of this deployment are kept, and what a candidate takes from them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.lake import TableName, TableVersion
from mlops_assets.production.platform import Platform
from mlops_assets.training.family import CandidateDeclaration, ModelFamily

if TYPE_CHECKING:
    from mlops_assets.training.dataset import Part
    from mlops_assets.training.estimators import Progress
    from mlops_assets.training.tuning import SearchResult, TrialRecord


class SearchMissingError(RuntimeError):
    """A candidate declares a search that has never been run."""


def run_search(
    platform: Platform,
    family: ModelFamily,
    declaration: CandidateDeclaration,
    training_set: TableVersion,
    progress: "Progress | None",
    say: Callable[[str], None],
) -> "SearchResult":
    """Search, and keep every trial in MLflow and in the lake.

    Raises
    ------
    TuningError
        When all trials failed, or the search cannot run.
    """
    from mlops_assets.registry.search_log import log_search
    from mlops_assets.training.dataset import load_parts
    from mlops_assets.training.tuning import name_study, search, trials_table

    settings = platform.settings
    parts = load_parts(platform.lake, training_set, family, ("train", "validation"))

    def tell(trial: "TrialRecord") -> None:
        value = "" if trial.value is None else f" {trial.value:.5f}"
        why = f": {trial.reason}" if trial.reason else ""
        say(f"trial {trial.number} {trial.state.value}{value}{why}")

    found = search(
        family,
        declaration,
        parts["train"],
        parts["validation"],
        storage=_storage(platform),
        study_name=name_study(family, declaration, training_set, seed=settings.seed),
        seed=settings.seed,
        threads=settings.threads,
        trials=settings.search_trials,
        scratch=settings.home / "scratch",
        progress=progress,
        on_trial=tell,
    )
    log_search(platform.registry, family, found, training_set)
    platform.lake.merge(
        _table(family),
        trials_table(found),
        keys=("study", "trial"),
        description=f"Trials of the searches of parameters of {family.name}, one row a trial.",
    )
    return found


def found_search(
    platform: Platform,
    family: ModelFamily,
    declaration: CandidateDeclaration,
    parts: "Mapping[str, Part]",
    study: str,
) -> "SearchResult":
    """Return what a study holds, without trying anything."""
    from mlops_assets.training.tuning import search

    return search(
        family,
        declaration,
        parts["train"],
        parts["validation"],
        storage=_storage(platform),
        study_name=study,
        seed=platform.settings.seed,
        threads=platform.settings.threads,
        trials=0,
    )


def chosen_parameters(
    platform: Platform,
    family: ModelFamily,
    declaration: CandidateDeclaration,
    parts: "Mapping[str, Part]",
    training_set: TableVersion,
) -> tuple[CandidateDeclaration, str]:
    """Return a candidate with the parameters that its newest search found, and that study's name.

    A search of an older training set counts too: parameters that were good last week are good
    today, and training again need not search again. A search of another space does not.

    Raises
    ------
    SearchMissingError
        When a search is declared and there is none.
    """
    if declaration.search is None:
        return declaration, ""
    study = _newest_study(platform, family, declaration, training_set)
    found = found_search(platform, family, declaration, parts, study)
    return declaration.model_copy(update={"parameters": dict(found.best_parameters)}), study


def _storage(platform: Platform) -> Path | str:
    place = platform.settings.studies_uri
    return place if "://" in place else Path(place)


def _table(family: ModelFamily) -> TableName:
    return TableName("tuning", family.name)


def _newest_study(
    platform: Platform,
    family: ModelFamily,
    declaration: CandidateDeclaration,
    training_set: TableVersion,
) -> str:
    from mlops_assets.training.tuning import name_study

    table = _table(family)
    known: list[str] = []
    if platform.lake.exists(table):
        with platform.lake.connect(tables=[table]) as con:
            rows = con.execute(
                f"SELECT DISTINCT study FROM {table.sql} WHERE candidate = $1 AND best",
                [declaration.name],
            ).fetchall()
        known = [row[0] for row in rows]
    for version in range(training_set.version, -1, -1):
        wanted = name_study(
            family,
            declaration,
            TableVersion(training_set.table, version),
            seed=platform.settings.seed,
        )
        if wanted in known:
            return wanted
    raise SearchMissingError(
        f"{family.name}: candidate {declaration.name} declares a search that was never run in this "
        f"space; materialise {family.name}/{declaration.name}_search first"
    )
