"""What can be known of a family before anything runs: the columns that dbt and its features have.

A table that dbt does not make is looked at when the training set is built.
"""

from collections.abc import Iterable
from importlib.util import find_spec

from mlops_assets.declaration import did_you_mean
from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import TableName
from mlops_assets.training.family import ALGORITHMS, DERIVED_SLICES, FamilyError, ModelFamily
from mlops_assets.training.training_set import select_features
from mlops_assets.transform.project import DbtProject

_SHOWN = 25  # names in a message


def check_family(family: ModelFamily, project: DbtProject, views: FeatureRegistry) -> None:
    """Refuse a family that names a column, feature or module that does not exist.

    Raises
    ------
    FamilyError
        Naming the key, the value and the nearest valid name.
    mlops_assets.features.FeatureError
        When a feature view or a feature does not exist.
    """
    spine, label = family.spine, family.label
    columns = {model.table: tuple(model.columns) for model in project.models.values()}
    features = [s.prefix + name for s in select_features(family, views) for name in s.features]

    def require(key: str, names: Iterable[str], there: Iterable[str], what: str) -> None:
        known = list(dict.fromkeys(there))
        for name in names:
            if name not in known:
                raise FamilyError(
                    f"{family.name}: {key}: {name!r} is no {what}{did_you_mean(name, known)}"
                    f" There are {', '.join(known[:_SHOWN])}{', ...' if known[_SHOWN:] else ''}"
                )

    of_spine = columns.get(TableName.parse(spine.table))
    if of_spine is not None:
        what = f"column of {spine.table}"
        require("spine.entity", spine.entity, of_spine, what)
        require("spine.keep", spine.keep, of_spine, what)
        require("spine.prediction_time", [spine.prediction_time], of_spine, what)
        require("split.column", [family.split_column], of_spine, what)
    of_label = columns.get(TableName.parse(label.table))
    if of_label is not None:
        what = f"column of {label.table}"
        require("label.column", [label.column], of_label, what)
        require("label.available_at", [label.available_at], of_label, what)
        require("label.keys", family.label_keys.values(), of_label, what)
    sliced = [*DERIVED_SLICES, *spine.keep, *spine.entity, *features]
    require("slices", family.slices, sliced, "column of the training set")
    require("gate.baseline.by", family.gate.baseline.by, features, "feature")
    for candidate in family.candidates:
        module = candidate.algorithm.partition(":")[0]
        if candidate.algorithm not in ALGORITHMS and not _is_there(module):
            raise FamilyError(
                f"{family.name}: candidates.algorithm: {candidate.algorithm!r} names a module "
                f"that is not installed; known are {', '.join(ALGORITHMS)}, or an import path "
                "'package.module:Class'"
            )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        return False
