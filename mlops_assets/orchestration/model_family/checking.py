"""What can be known of a family before anything runs: that what it names exists.

Tables, columns and features are looked up among what the project declares; a table that nothing
declares, in the lake.
"""

from collections.abc import Iterator

from mlops_assets.declaration import Key, Problem, judge, unknown_name
from mlops_assets.features import FeatureError, FeatureView
from mlops_assets.lake import TableName
from mlops_assets.orchestration.surroundings import Columns, Surroundings
from mlops_assets.training.family import DERIVED_SLICES, FeatureDeclaration, ModelFamily
from mlops_assets.training.family_candidates import candidate_problems

_Keys = tuple[Key, ...]


def family_problems(family: ModelFamily, around: Surroundings) -> Iterator[Problem]:
    """Say what a family names that does not exist, with the nearest that does.

    Parameters
    ----------
    family
        The declaration, or its readable part.
    around
        What there is.
    """
    yield from judge(
        _table(("spine", "table"), family, around),
        _table(("label", "table"), family, around),
        _spine_lists(family, around, "entity"),
        _spine_lists(family, around, "keep"),
        _spine_time(family, around),
        _split_column(family, around),
        _label_column(family, around, "column"),
        _label_column(family, around, "available_at"),
        _label_keys(family, around),
        _features(family, around),
        _slices(family, around),
        _baseline(family, around),
        _candidates(family),
    )


def _table(keys: tuple[str, str], family: ModelFamily, around: Surroundings) -> Iterator[Problem]:
    name = str(getattr(getattr(family, keys[0]), keys[1]))
    if not around.has(TableName.parse(name)):
        known = sorted({*map(str, around.tables), *map(str, around.lake.tables())})
        said = unknown_name(name, "table that is declared or in the lake", known)
        yield Problem(keys, said)


def _columns(family: ModelFamily, around: Surroundings, part: str) -> tuple[str, Columns]:
    """Return what a column of the spine or of the label table is called, and which there are."""
    table = str(getattr(family, part).table)
    return f"column of {table}", around.columns(TableName.parse(table))


def _unless_known(keys: _Keys, name: str, what: str, known: Columns) -> Iterator[Problem]:
    if known is not None and name not in known:
        yield Problem(keys, unknown_name(name, what, known))


def _spine_lists(family: ModelFamily, around: Surroundings, key: str) -> Iterator[Problem]:
    columns = _columns(family, around, "spine")
    for place, name in enumerate(getattr(family.spine, key)):
        yield from _unless_known(("spine", key, place), name, *columns)


def _spine_time(family: ModelFamily, around: Surroundings) -> Iterator[Problem]:
    columns = _columns(family, around, "spine")
    yield from _unless_known(("spine", "prediction_time"), family.spine.prediction_time, *columns)


def _split_column(family: ModelFamily, around: Surroundings) -> Iterator[Problem]:
    if family.split.column is not None:
        columns = _columns(family, around, "spine")
        yield from _unless_known(("split", "column"), family.split.column, *columns)


def _label_column(family: ModelFamily, around: Surroundings, key: str) -> Iterator[Problem]:
    columns = _columns(family, around, "label")
    yield from _unless_known(("label", key), getattr(family.label, key), *columns)


def _label_keys(family: ModelFamily, around: Surroundings) -> Iterator[Problem]:
    of_spine, of_label = (_columns(family, around, part) for part in ("spine", "label"))
    for spine_column, label_column in family.label_keys.items():
        key: _Keys = ("label", "keys", spine_column) if family.label.keys else ("label", "keys")
        yield from _unless_known(key, label_column, *of_label)
        if family.label.keys:
            yield from _unless_known(key, spine_column, *of_spine)


def _features(family: ModelFamily, around: Surroundings) -> Iterator[Problem]:
    if around.dbt_error:
        return
    columns = _columns(family, around, "spine")
    for place, wanted in enumerate(family.features):
        found = judge(_feature(wanted, around, columns))
        yield from (Problem(("features", place, *p.keys), p.text) for p in found)


def _feature(
    wanted: FeatureDeclaration, around: Surroundings, columns: tuple[str, Columns]
) -> Iterator[Problem]:
    """Say what is wrong with the features of one view; keys count from its mapping."""
    if any(wanted.view == wrong.model for wrong in around.wrong_views):
        return  # told where the view is declared
    known = {view.name: view for view in around.views.views}
    if wanted.view not in known:
        yield Problem(("view",), unknown_name(wanted.view, "feature view", known))
        return
    view = known[wanted.view]
    found = [*judge(_view_columns(wanted, view), _view_entity(wanted, view, columns))]
    yield from found
    if not found:
        try:
            view.select(
                None if wanted.columns == "all" else wanted.columns,
                entity=wanted.entity,
                prefix=wanted.prefix,
            )
        except FeatureError as error:
            yield Problem((), f"{error}.")


def _view_columns(wanted: FeatureDeclaration, view: FeatureView) -> Iterator[Problem]:
    for place, name in enumerate(() if wanted.columns == "all" else wanted.columns):
        what = f"feature of {view.name}"
        yield from _unless_known(("columns", place), name, what, view.feature_names)


def _view_entity(
    wanted: FeatureDeclaration, view: FeatureView, columns: tuple[str, Columns]
) -> Iterator[Problem]:
    for spine_column, column in wanted.entity.items():
        key = ("entity", spine_column)
        yield from _unless_known(key, column, f"entity column of {view.name}", view.entity)
        yield from _unless_known(key, spine_column, *columns)
    for column in view.entity:
        if column not in wanted.entity.values():
            what = f"{columns[0]}, and {view.name} is keyed by it: say which is, under `entity`"
            yield from _unless_known(("view",), column, what, columns[1])


def _feature_names(family: ModelFamily, around: Surroundings) -> Columns:
    """Return what the family's features are called; None if that cannot be said."""
    known = {view.name: view for view in around.views.views}
    names: list[str] = []
    for wanted in family.features:
        if wanted.view not in known:
            return None
        chosen = known[wanted.view].feature_names if wanted.columns == "all" else wanted.columns
        names += [f"{wanted.prefix}{name}" for name in chosen]
    return tuple(names)


def _slices(family: ModelFamily, around: Surroundings) -> Iterator[Problem]:
    features = _feature_names(family, around)
    if features is None:
        return
    known = (*DERIVED_SLICES, *family.spine.keep, *family.spine.entity, *features)
    for place, name in enumerate(family.slices):
        yield from _unless_known(("slices", place), name, "column of the training set", known)


def _baseline(family: ModelFamily, around: Surroundings) -> Iterator[Problem]:
    features = _feature_names(family, around)
    for place, name in enumerate(family.gate.baseline.by):
        key = ("gate", "baseline", "by", place)
        yield from _unless_known(key, name, "feature", features)


def _candidates(family: ModelFamily) -> Iterator[Problem]:
    for place, candidate in enumerate(family.candidates):
        for problem in judge(candidate_problems(candidate)):
            yield Problem(("candidates", place, *problem.keys), problem.text)
