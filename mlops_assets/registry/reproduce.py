"""Making a registered model again, from what its recipe says, and comparing.

Nothing is published or registered. Three questions are answered apart, so that a difference can be
traced to where it comes from: what differs in code and environment now; whether the recorded
versions of the input tables still give the recorded training set, cell by cell; and whether the
recorded training set, parameters, seed and threads still give a model with the same answers.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import LakeError, TableVersion
from mlops_assets.registry.names import ModelReference
from mlops_assets.registry.provenance import Provenance, collect_environment
from mlops_assets.registry.recipe import Recipe
from mlops_assets.registry.registry import ModelVersion, Registry
from mlops_assets.training.candidate import Candidate, Member, train_candidate
from mlops_assets.training.dataset import Part, load_parts
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.training_set import training_set_again
from mlops_assets.training.training_set_relations import TrainingSetError

if TYPE_CHECKING:
    import duckdb

Say = Callable[[str], None]
"""Told what is done next."""

TOLERANCES: Mapping[str, float] = {"net": 1e-4}
"""Largest difference of an answer, relative above 1, that counts as the same, by algorithm.

Any other one must answer the same to the last bit, an ensemble if its members must. A net's matrix
products may add up in another order on another processor, and what it learns carries that on.
"""

_EXAMPLES = 3
_THERE = '"@there"'  # tells a row that is absent from one that is null


@dataclass(frozen=True)
class Change:
    """Something about code or environment that is not as it was.

    Attributes
    ----------
    what
        Such as `git commit`, or the name of a library.
    then, now
        Its values.
    """

    what: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.what} was {self.then}, is {self.now}"


@dataclass(frozen=True)
class ColumnDifference:
    """A column that came out differently.

    Attributes
    ----------
    column
        Its name.
    rows
        In how many rows.
    examples
        A few of them: key, value then, value now.
    """

    column: str
    rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class DataComparison:
    """The training set as it was built again, against the recorded one.

    Attributes
    ----------
    rows
        Of the recorded one.
    missing, added
        Rows of which the key is in only the recorded one, or only the new one.
    gone, new
        Columns that only the recorded one has, or only the new one.
    columns
        Columns whose values differ.
    problem
        Why it could not be built again; empty when it could.
    """

    rows: int = 0
    missing: int = 0
    added: int = 0
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    columns: tuple[ColumnDifference, ...] = ()
    problem: str = ""

    @property
    def same(self) -> bool:
        """Whether every cell is as it was."""
        changes = (self.missing, self.added, self.gone, self.new, self.columns, self.problem)
        return not any(changes)

    def lines(self, table: TableVersion) -> list[str]:
        """Say for people what came of building a table again."""
        if self.same:
            return [f"{table}: built again, all {self.rows:,} rows are the same"]
        if self.problem:
            return [f"{table} cannot be built again: {self.problem}"]
        lines = [
            (
                f"{table} comes out differently: of {self.rows:,} rows {self.missing:,} are "
                f"missing, and {self.added:,} are added"
            )
        ]
        lines += [f"  column {name} is gone" for name in self.gone]
        lines += [f"  column {name} is new" for name in self.new]
        for column in self.columns:
            lines.append(f"  {column.column} differs in {column.rows:,} rows")
            lines += [f"    {example}" for example in column.examples]
        return lines


@dataclass(frozen=True)
class AnswerComparison:
    """The answers of the model made again, against those of the registered one, on the test part.

    Attributes
    ----------
    rows
        How many were answered.
    different
        Rows whose answers differ in any bit.
    largest
        Largest difference, relative where the answer is above 1.
    tolerance
        Largest difference that counts as the same; 0 means to the last bit.
    metric, then, now
        The primary metric of both.
    """

    rows: int
    different: int
    largest: float
    tolerance: float
    metric: str
    then: float
    now: float

    @property
    def same(self) -> bool:
        """Whether every answer is as it was, within the tolerance."""
        return self.different == 0 or self.largest <= self.tolerance

    def lines(self) -> list[str]:
        """Say for people what came of answering the test part again."""
        metric = f"{self.metric}: was {self.then!r}, is {self.now!r}"
        if self.different == 0:
            return [f"answers: all {self.rows:,} on test are the same to the last bit", metric]
        bound = f"within {self.tolerance:g}" if self.tolerance else "to the last bit"
        return [
            (
                f"answers: {self.different:,} of {self.rows:,} on test differ, by at most "
                f"{self.largest:.3g}; they must be the same {bound}"
            ),
            metric,
        ]


@dataclass(frozen=True)
class Reproduction:
    """What came of making a model again.

    Attributes
    ----------
    version, algorithm, training_set
        What was made again.
    changes
        What differs in code and environment; that need not change the result.
    data
        The training set compared; None when it was taken as recorded.
    answers
        The answers compared.
    seconds
        Wall-clock seconds it took.
    """

    version: str
    algorithm: str
    training_set: TableVersion
    changes: tuple[Change, ...]
    data: DataComparison | None
    answers: AnswerComparison
    seconds: float

    @property
    def reproduced(self) -> bool:
        """Whether everything that was compared is as it was."""
        return self.answers.same and (self.data is None or self.data.same)


def reproduce(
    registry: Registry,
    reference: ModelReference | str,
    views: FeatureRegistry,
    now: Provenance,
    *,
    from_training_set: bool = False,
    say: Say = lambda _: None,
) -> Reproduction:
    """Make a registered model again and compare it with the registered one.

    Parameters
    ----------
    registry, reference
        Which model.
    views
        The feature views as they are now.
    now
        The code as it is now.
    from_training_set
        Take the recorded training set as it is instead of building it again.
    say
        Told what is done next.

    Raises
    ------
    RegistryError
        When there is no such model, or its recipe or artifacts cannot be read.
    mlops_assets.lake.LakeError
        When its training set is gone.
    """
    begun = time.perf_counter()
    version = registry.find(reference)
    recipe = Recipe.of_run(registry.client, version.run_id)
    stored = registry.load(version)
    data = None
    if not from_training_set:
        say(f"building {version.training_set} again from {len(recipe.inputs)} table versions")
        data = _build_again(registry, recipe, views)
    parts = load_parts(registry.lake, recipe.training_set, recipe.family)
    candidate, tolerance = _train_again(registry, recipe, parts, say)
    say("comparing its answers with those of the registered model")
    test = parts["test"]
    return Reproduction(
        version=str(version),
        algorithm=version.algorithm,
        training_set=version.training_set,
        changes=changes_since(recipe, now),
        data=data,
        answers=_compare_answers(
            version,
            stored.predict(test.features),
            candidate.estimator.predict(test.features),
            tolerance,
            candidate.test.value(version.primary_metric),
        ),
        seconds=time.perf_counter() - begun,
    )


def changes_since(recipe: Recipe, now: Provenance) -> tuple[Change, ...]:
    """Return what differs in code and environment between a recipe and this moment."""
    then = {**vars(recipe.provenance), **recipe.environment}
    today = {**vars(now), **collect_environment()}
    return tuple(
        Change(name.replace("_", " "), then.get(name, "absent"), today.get(name, "absent"))
        for name in dict.fromkeys((*then, *today))
        if then.get(name) != today.get(name)
    )


def _train_again(
    registry: Registry, recipe: Recipe, parts: Mapping[str, Part], say: Say
) -> tuple[Candidate, float]:
    """Train by the recipe, members first; return the candidate and how exact it must be."""
    members: dict[str, Member] = {}
    tolerance = TOLERANCES.get(recipe.candidate.algorithm, 0.0)
    for name, run_id in recipe.members.items():
        of = Recipe.of_run(registry.client, run_id)
        member, its_tolerance = _train_again(registry, of, parts, say)
        members[name] = Member(member.estimator, member.validation.answers, run_id)
        tolerance = max(tolerance, its_tolerance)
    say(f"training {recipe.candidate.name}: seed {recipe.seed}, threads {recipe.threads}")
    trained = train_candidate(
        recipe.family,
        recipe.candidate,
        parts,
        recipe.training_set,
        seed=recipe.seed,
        threads=recipe.threads,
        members=members,
    )
    return trained, tolerance


def _build_again(registry: Registry, recipe: Recipe, views: FeatureRegistry) -> DataComparison:
    from mlops_assets.features import FeatureError

    again = training_set_again(
        registry.lake, recipe.family, views, recipe.training_set, recipe.inputs
    )
    try:
        with again as (con, relation):
            return _compare_data(con, recipe.training_set.table.sql, relation, recipe.family)
    except (FeatureError, TrainingSetError, LakeError) as error:
        return DataComparison(problem=str(error))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _types(con: "duckdb.DuckDBPyConnection", relation: str) -> dict[str, str]:
    rows = con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    return {row[0]: str(row[1]) for row in rows}


def _compare_data(
    con: "duckdb.DuckDBPyConnection", recorded: str, again: str, family: ModelFamily
) -> DataComparison:
    """Join the two by their key and count the cells that differ, column by column."""
    then, now = _types(con, recorded), _types(con, again)
    key = family.spine.entity
    shared = [name for name in then if name in now and name not in key]
    on = " AND ".join(
        f"was.{_quoted(name)} IS NOT DISTINCT FROM now.{_quoted(name)}" for name in key
    )
    # What is built now is cast to the stored type, as publishing casts it.
    columns = ", ".join(
        f"CAST({_quoted(name)} AS {then[name]}) AS {_quoted(name)}" for name in now if name in then
    )
    con.execute(f"CREATE TEMP TABLE _again AS SELECT true AS {_THERE}, {columns} FROM {again}")
    joined = f"(SELECT true AS {_THERE}, * FROM {recorded}) AS was FULL JOIN _again AS now ON {on}"
    both = f"was.{_THERE} AND now.{_THERE}"
    differs = {
        name: f"{both} AND was.{_quoted(name)} IS DISTINCT FROM now.{_quoted(name)}"
        for name in shared
    }
    facts = [
        f"count(was.{_THERE})",
        f"count_if(now.{_THERE} IS NULL)",
        f"count_if(was.{_THERE} IS NULL)",
        *(f"count_if({test})" for test in differs.values()),
    ]
    rows, missing, added, *cells = con.sql(f"SELECT {', '.join(facts)} FROM {joined}").fetchall()[0]
    different = []
    for name, count in zip(shared, cells, strict=True):
        if not count:
            continue
        shown = con.execute(
            f"""
            SELECT {", ".join(f"was.{_quoted(column)}" for column in key)},
                   was.{_quoted(name)}, now.{_quoted(name)}
            FROM {joined} WHERE {differs[name]} ORDER BY ALL LIMIT {_EXAMPLES}
            """
        ).fetchall()
        examples = tuple(
            f"{', '.join(map(str, row[:-2]))}: was {row[-2]}, is {row[-1]}" for row in shown
        )
        different.append(ColumnDifference(name, count, examples))
    return DataComparison(
        rows=rows,
        missing=missing,
        added=added,
        gone=tuple(name for name in then if name not in now),
        new=tuple(name for name in now if name not in then),
        columns=tuple(different),
    )


def _compare_answers(
    version: ModelVersion,
    then: NDArray[np.float64],
    now: NDArray[np.float64],
    tolerance: float,
    metric_now: float,
) -> AnswerComparison:
    apart = np.abs(then - now) / np.maximum(1, np.abs(then))
    return AnswerComparison(
        rows=len(then),
        different=int((then != now).reshape(len(then), -1).any(axis=1).sum()),
        largest=float(apart.max()),
        tolerance=tolerance,
        metric=version.primary_metric,
        then=version.metrics[f"test_{version.primary_metric}"],
        now=metric_now,
    )
