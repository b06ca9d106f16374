"""Feature views as a dbt manifest declares them.

A model is a feature view when its ``config.meta`` has the key ``feature_view``::

    models:
      - name: weather
        description: Hourly weather at an airport.
        config:
          meta:
            feature_view:
              entity: [airport]
              event_time: observed_at
              available_at: available_at
              ttl: PT6H            # or null: a value never grows too old
              owner: data-platform
        columns: ...               # each with data_type and description

Its other columns, but for the one it is rebuilt by (``config.window_column``), are its features.

A model's table is published only after its tests passed, so a join may rely on a test. The generic
test ``knowledge_ordered``, of severity error, over all rows and over the same columns, guarantees
`FeatureView.knowledge_ordered`::

    data_tests:
      - knowledge_ordered:
          arguments: {entity: [airport], event_time: observed_at, available_at: available_at}
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mlops_assets.features.duration import parse_duration
from mlops_assets.features.errors import FeatureViewError, nearest
from mlops_assets.features.view import Feature, FeatureView
from mlops_assets.lake import TableName, TableNameError

META_KEY = "feature_view"
ORDER_TEST = "knowledge_ordered"
_KEYS = ("entity", "event_time", "available_at", "ttl", "owner")
_PLACE = re.compile(rf"({META_KEY}|columns|description|config)(\.[^\s.]+)*(?=[\s.:])")


@dataclass(frozen=True)
class FeatureViewProblem:
    """One thing that is wrong with a feature view.

    Attributes
    ----------
    model
        The dbt model that declares it.
    file
        The YAML file, from the dbt project's folder; the SQL file where there is none.
    text
        What is wrong; begins with the key, where it is about one.
    """

    model: str
    file: str
    text: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it is about, from the model's mapping down; columns count by name."""
        found = _PLACE.match(self.text)
        keys = tuple(found[0].split(".")) if found else (META_KEY,)
        return ("config", "meta", *keys) if keys[0] == META_KEY else keys

    def __str__(self) -> str:
        return f"model {self.model} ({self.file}): {self.text}"


def read_feature_views(manifest: str | Path | Mapping[str, Any]) -> tuple[FeatureView, ...]:
    """Read every feature view of a dbt project.

    Parameters
    ----------
    manifest
        dbt's ``manifest.json``: its path or its content.

    Returns
    -------
    tuple of FeatureView
        By name.

    Raises
    ------
    FeatureViewError
        Listing everything that is wrong with any of the declarations.
    """
    views, problems = examine_feature_views(manifest)
    if problems:
        raise FeatureViewError("\n".join(map(str, problems)))
    return views


def examine_feature_views(
    manifest: str | Path | Mapping[str, Any],
) -> tuple[tuple[FeatureView, ...], tuple[FeatureViewProblem, ...]]:
    """Read the feature views of a dbt project that are declared rightly, and what is wrong.

    Parameters
    ----------
    manifest
        As `read_feature_views`.

    Raises
    ------
    FeatureViewError
        If it is no manifest.
    """
    nodes = _nodes(manifest)
    tests = [node for node in nodes if node.get("resource_type") == "test"]
    views: list[FeatureView] = []
    problems: list[FeatureViewProblem] = []
    for node in nodes:
        if node.get("resource_type") != "model":
            continue
        own_tests = [t for t in tests if t.get("attached_node") == node.get("unique_id")]
        declaration = _Declaration(node, own_tests)
        if declaration.is_feature_view(problems):
            view = declaration.read(problems)
            if view is not None:
                views.append(view)
    by_name: dict[str, list[FeatureView]] = defaultdict(list)
    for view in views:
        by_name[view.name].append(view)
    for name, same in by_name.items():
        if len(same) > 1:
            problems.append(
                FeatureViewProblem(
                    name,
                    same[-1].source,
                    f"feature view {name!r} is declared twice, in "
                    f"{' and in '.join(view.source for view in same)}. Rename one: the name is "
                    "how models ask for it",
                )
            )
    sound = [same[0] for same in by_name.values() if len(same) == 1]
    return tuple(sorted(sound, key=lambda view: view.name)), tuple(problems)


def _nodes(manifest: str | Path | Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the manifest's models and tests, among others."""
    where = "the manifest"
    if not isinstance(manifest, Mapping):
        path = Path(manifest)
        where = str(path)
        try:
            manifest = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise FeatureViewError(f"no dbt manifest at {path}. Write it: dbt parse") from error
        except ValueError as error:
            raise FeatureViewError(
                f"{path} is not JSON: {error}. Write it anew: dbt parse"
            ) from error
    if not isinstance(manifest, Mapping) or not isinstance(manifest.get("nodes"), Mapping):
        raise FeatureViewError(f"{where} has no nodes, so it is no dbt manifest.json")
    return list(manifest["nodes"].values())


@dataclass(frozen=True)
class _Declaration:
    """One dbt model, and what is wrong with it as a feature view."""

    node: Mapping[str, Any]
    tests: Sequence[Mapping[str, Any]]

    @property
    def _meta(self) -> Mapping[str, Any]:
        config = self.node.get("config") or {}
        return config.get("meta") or {}

    @property
    def _source(self) -> str:
        """The YAML file; the SQL file where there is none."""
        patch = self.node.get("patch_path") or ""
        return patch.partition("://")[2] or str(self.node.get("original_file_path", "?"))

    def _problem(self, text: str) -> FeatureViewProblem:
        return FeatureViewProblem(self.node["name"], self._source, text)

    @property
    def _columns(self) -> Mapping[str, Mapping[str, Any]]:
        return self.node.get("columns") or {}

    def is_feature_view(self, problems: list[FeatureViewProblem]) -> bool:
        """Whether it declares itself one; a misspelt declaration is a problem, not a no."""
        if META_KEY in self._meta:
            return True
        problems.extend(
            self._problem(f"config.meta.{key} is not a known key; did you mean {META_KEY!r}?")
            for key in get_close_matches(META_KEY, self._meta, n=1, cutoff=0.85)
        )
        return False

    def read(self, problems: list[FeatureViewProblem]) -> FeatureView | None:
        """Return the feature view, or None after adding what is wrong to ``problems``."""
        declared = self._meta[META_KEY]
        if not isinstance(declared, Mapping):
            keys = ", ".join(_KEYS)
            problems.append(self._problem(f"{META_KEY} = {declared!r} is not a mapping of {keys}"))
            return None
        found = [
            *self._key_problems(declared),
            *self._column_problems(declared),
            *self._value_problems(declared),
        ]
        features = self._features(declared)
        found.extend(self._feature_problems(features))
        table = self._table(found)
        if found or table is None:
            problems.extend(map(self._problem, found))
            return None
        return FeatureView(
            name=self.node["name"],
            table=table,
            entity=tuple(declared["entity"]),
            event_time=declared["event_time"],
            available_at=declared["available_at"],
            ttl=_ttl(declared["ttl"]),
            owner=declared["owner"],
            description=self.node["description"],
            features=features,
            source=self._source,
            knowledge_ordered=any(_guarantees_order(test, declared) for test in self.tests),
        )

    def _table(self, found: list[str]) -> TableName | None:
        try:
            return TableName(self.node["schema"], self.node["name"])
        except TableNameError as error:
            found.append(f"cannot be a table of the lake: {error}")
            return None

    def _key_problems(self, declared: Mapping[str, Any]) -> Iterator[str]:
        for key in declared:
            if key not in _KEYS:
                yield f"{META_KEY}.{key} is not a known key; {nearest(key, _KEYS)}"
        for key in _KEYS:
            if key not in declared:
                hint = " Write null if its values never grow too old" if key == "ttl" else ""
                yield f"{META_KEY}.{key} is missing.{hint}"

    def _column_problems(self, declared: Mapping[str, Any]) -> Iterator[str]:
        """Say what is wrong with the keys that name columns."""
        entity = declared.get("entity", ())
        if "entity" in declared and not (
            isinstance(entity, list) and entity and all(isinstance(c, str) for c in entity)
        ):
            yield f"{META_KEY}.entity = {entity!r} is not a list of column names"
            entity = ()
        times = [(key, declared[key]) for key in ("event_time", "available_at") if key in declared]
        for key, column in [*(("entity", column) for column in entity), *times]:
            if column not in self._columns:
                yield (
                    f"{META_KEY}.{key} = {column!r} is not among the model's columns; "
                    f"{nearest(column, self._columns)}"
                )
        for column in sorted(set(entity)):
            if entity.count(column) > 1:
                yield f"{META_KEY}.entity names {column!r} twice"
            if column in [time for _, time in times]:
                yield f"{META_KEY}.entity = {column!r} is also its time; an entity has no time"

    def _value_problems(self, declared: Mapping[str, Any]) -> Iterator[str]:
        """Say what is wrong with the keys that name no column."""
        if "ttl" in declared:
            try:
                _ttl(declared["ttl"])
            except ValueError as error:
                yield f"{META_KEY}.ttl = {declared['ttl']!r} {error}"
        owner = declared.get("owner", "?")
        if not isinstance(owner, str) or not owner.strip():
            yield f"{META_KEY}.owner = {owner!r} is not a name of a person or team"
        if not str(self.node.get("description") or "").strip():
            yield "description is missing. Say what the feature view holds"

    def _features(self, declared: Mapping[str, Any]) -> tuple[Feature, ...]:
        """Its columns that are neither key, nor time, nor what it is rebuilt by."""
        entity = declared.get("entity")
        taken = [
            *(entity if isinstance(entity, list) else ()),
            declared.get("event_time"),
            declared.get("available_at"),
            (self.node.get("config") or {}).get("window_column"),
        ]
        return tuple(
            Feature(name, str(column.get("data_type") or ""), column.get("description") or "")
            for name, column in self._columns.items()
            if name not in taken
        )

    def _feature_problems(self, features: tuple[Feature, ...]) -> Iterator[str]:
        if not features:
            yield "has no feature: every column is entity, time or window"
        for feature in features:
            if not feature.type:
                yield f"columns.{feature.name}.data_type is missing. Declare the feature's type"
            if not feature.description.strip():
                yield f"columns.{feature.name}.description is missing. Say what it means, with unit"


def _guarantees_order(test: Mapping[str, Any], declared: Mapping[str, Any]) -> bool:
    """Whether a dbt test is the order test, can fail, and is about these columns and all rows."""
    metadata, config = test.get("test_metadata") or {}, test.get("config") or {}
    arguments = metadata.get("kwargs") or {}
    columns = ("entity", "event_time", "available_at")
    return (
        metadata.get("name") == ORDER_TEST
        and all(arguments.get(key) == declared[key] for key in columns)
        and str(config.get("severity", "ERROR")).upper() == "ERROR"
        and config.get("where") is None
        and config.get("limit") is None
        and config.get("error_if", "!= 0") == "!= 0"
    )


def _ttl(value: object) -> timedelta | None:
    if value is None:
        return None
    if not isinstance(value, str):
        # A wrong value of a declaration, told like the other wrong values of this key.
        raise ValueError(  # noqa: TRY004
            "is not text; write an ISO-8601 duration, such as 'PT6H', or null"
        )
    return parse_duration(value)
