"""Loading every ``defs.yaml`` of a project; and what is said, all at once, when one is wrong.

Dagster stops at the first error and shows it within a traceback, with the value as it is. So when
loading fails, the files are looked at again here, thoroughly: each document against the model of
its component; what is valid in each, against all that the others declare; the dbt project's feature
views; and, where nothing is wrong with a document, by building its component on its own. None of
these waits for another, so that all that is wrong is told at once: file, line, key, value and what
is allowed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import dagster as dg
import yaml
from dagster_shared.yaml_utils import parse_yamls_with_source_position
from dagster_shared.yaml_utils.source_position import ValueAndSourcePositionTree
from pydantic import BaseModel

from mlops_assets.declaration import (
    Key,
    Problem,
    UnreadableError,
    choose_key,
    did_you_mean,
    find_problems,
    judge,
    key_path,
    readable_part,
    scalars,
    unknown_key,
    without_secrets,
)
from mlops_assets.declaration.files import declaration_files
from mlops_assets.features import FeatureError
from mlops_assets.features.manifest import FeatureViewProblem
from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.instance import quiet_about_beta
from mlops_assets.orchestration.surroundings import DBT_FOLDER, Columns, Surroundings
from mlops_assets.training.family import ModelFamily

_TOP_LEVEL = ("type", "attributes", "template_vars_module", "requirements", "post_processing")
_REFERENCE = "docs/reference/yaml.md"


class DeclarationsError(ValueError):
    """Some ``defs.yaml`` are wrong. The message names file, line, key, value and what is allowed.

    Attributes
    ----------
    findings
        Everything that is wrong, in the order of files and lines.
    """

    def __init__(self, findings: Sequence["Finding"]) -> None:
        self.findings = tuple(findings)
        count = len(self.findings)
        files = len({finding.file for finding in self.findings})
        super().__init__(
            f"{count} problem{'s' * (count > 1)} in {files} file{'s' * (files > 1)}; nothing was "
            "loaded.\n"
            + "\n".join(str(finding) for finding in self.findings)
            + f"\nEvery key is described in {_REFERENCE}."
        )


@dataclass(frozen=True)
class Finding:
    """A problem with the place where it stands.

    Attributes
    ----------
    file
        Path from the project root.
    line
        From 1: of the offending key, or of the mapping in which a key is missing.
    """

    file: str
    line: int
    problem: Problem

    def __str__(self) -> str:
        path = key_path(self.problem.keys)
        return f"{self.file}:{self.line}: {path}\n    {self.problem.text}"


def load_declared(project_root: Path, lake: Lake) -> dg.Definitions:
    """Load what the ``defs`` folder of a project declares.

    Parameters
    ----------
    project_root
        Folder with the project's ``pyproject.toml``.
    lake
        The deployment's. It is asked only for tables that are named and that nothing declares.

    Raises
    ------
    DeclarationsError
        If a ``defs.yaml``, or a feature view of the dbt project, is wrong: everything that is wrong
        in any of them.
    """
    try:
        definitions = dg.load_from_defs_folder(path_within_project=project_root)
        if not (_declared_twice(definitions) or _names_what_is_not(definitions, lake)):
            return definitions
        findings = examine(project_root, lake)
    except Exception:
        findings = examine(project_root, lake)
        if not findings:
            raise
    if findings:
        # Here, so that Dagster's own error, which shows values as they are, is not its context.
        raise DeclarationsError(findings)
    return definitions


def examine(project_root: Path, lake: Lake) -> list[Finding]:
    """Find everything that is wrong in the ``defs.yaml`` of a project.

    Parameters
    ----------
    project_root, lake
        As `load_declared`.
    """
    folder = dg.ComponentTree.for_project(project_root).defs_module_path
    findings: list[Finding] = []
    documents: list[_Document] = []
    for path in declaration_files(folder):
        file = path.relative_to(project_root).as_posix()
        try:
            trees = parse_yamls_with_source_position(path.read_text("utf-8"), file)
        except yaml.MarkedYAMLError as error:
            findings.append(_unreadable(file, error))
            continue
        documents += [_Document(file, tree) for tree in trees]
    around = _surroundings(
        project_root, lake, [read for document in documents if (read := document.readable())]
    )
    findings += _dbt_findings(project_root, around)
    components: list[tuple[_Document, dg.Definitions]] = []
    for document in documents:
        problems = [*document.problems(), *document.problems_around(around)]
        if not problems and (component := document.component()) is not None:
            built = _build(component, document, project_root)
            problems = [built] if isinstance(built, Problem) else []
            components += [(document, built)] if isinstance(built, dg.Definitions) else []
        findings += [document.locate(problem) for problem in problems]
    findings += _clashes(components)
    return sorted(dict.fromkeys(findings), key=lambda finding: (finding.file, finding.line))


_Read = tuple[type[DeclaredComponent[Any]], BaseModel]  # a component and its declaration


def _surroundings(project_root: Path, lake: Lake, declared: Sequence[_Read]) -> Surroundings:
    """Gather what components declare, as far as each can be read."""
    tables: dict[TableName, Columns] = {}
    families = []
    for kind, declaration in declared:
        with suppress(UnreadableError):  # it declares no table that could be named
            tables.update(kind.tables_of(declaration))
        if isinstance(declaration, ModelFamily):
            with suppress(UnreadableError):
                families.append(declaration.name)
    return Surroundings.of(project_root, lake, tables, families)


def _names_what_is_not(definitions: dg.Definitions, lake: Lake) -> bool:
    """Whether something that was loaded names what does not exist."""
    tree = definitions.component_tree
    if tree is None:
        return False
    kinds: Any = DeclaredComponent  # abstract; those found are not
    components: list[DeclaredComponent[Any]] = tree.get_all_components(kinds)
    declared = [(type(component), component.declaration) for component in components]
    around = _surroundings(tree.project_root, lake, declared)
    return bool(around.wrong_views) or any(
        True for kind, declaration in declared for _ in kind.problems_of(declaration, around)
    )


# The dbt project ----------------------------------------------------------------------------------


def _dbt_findings(project_root: Path, around: Surroundings) -> Iterator[Finding]:
    """Say what is wrong with the feature views, where they are declared."""
    if around.dbt_error:
        file = f"{DBT_FOLDER}/dbt_project.yml"
        yield Finding(file, 1, Problem((), without_secrets(f"{around.dbt_error}.")))
    for wrong in around.wrong_views:
        file = f"{DBT_FOLDER}/{wrong.file}"
        keys, line = _place_of(project_root / file, wrong)
        yield Finding(file, line, Problem(keys, f"of model {wrong.model}: {wrong.text}"))


def _place_of(path: Path, wrong: FeatureViewProblem) -> tuple[tuple[Key, ...], int]:
    """Find the key that a problem of a feature view is about, or the innermost that is there."""
    if path.suffix not in {".yml", ".yaml"}:
        return (), 1  # a model that no YAML describes
    for tree in parse_yamls_with_source_position(path.read_text("utf-8"), path.name):
        value = tree.value if isinstance(tree.value, Mapping) else {}
        for place, model in enumerate(value.get("models") or ()):
            if model.get("name") != wrong.model:
                continue
            keys: tuple[Key, ...] = ("models", place, *wrong.keys)
            if wrong.keys[0] == "columns" and len(wrong.keys) > 1:
                names = [column.get("name") for column in model.get("columns") or ()]
                at = names.index(wrong.keys[1])
                keys = ("models", place, "columns", at, *wrong.keys[2:])
            position, _ = tree.source_position_tree.lookup_closest_and_path(keys, None)
            return keys, position.start.line
    return (), 1


# Documents ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Document:
    """One document of a ``defs.yaml``: one component."""

    file: str
    tree: ValueAndSourcePositionTree

    @property
    def attributes(self) -> Any:
        return self.tree.value.get("attributes")

    def locate(self, problem: Problem) -> Finding:
        """Add the place: of the key itself, or of the innermost mapping that is there."""
        position, _ = self.tree.source_position_tree.lookup_closest_and_path(problem.keys, None)
        text = without_secrets(problem.text, self.tree.value)
        return Finding(self.file, position.start.line, replace(problem, text=text))

    def problems(self) -> Iterator[Problem]:
        """Say what is wrong with the document on its own."""
        if not isinstance(self.tree.value, Mapping):
            yield Problem((), f"is no mapping. Write the keys {' and '.join(_TOP_LEVEL[:2])}.")
            return
        for key in self.tree.value:
            if key not in _TOP_LEVEL:
                yield Problem((key,), unknown_key(key, _TOP_LEVEL))
        kind = _component_type(self.tree.value.get("type"))
        if isinstance(kind, Problem):
            yield kind
        elif issubclass(kind, DeclaredComponent):
            yield from self._attribute_problems(kind.declared_by)

    def _attribute_problems(self, model: type[BaseModel]) -> Iterator[Problem]:
        if not self.attributes:
            needed = [name for name, field in model.model_fields.items() if field.is_required()]
            said = "is empty" if "attributes" in self.tree.value else "is missing"
            yield Problem(("attributes",), f"{said}. Required keys: {', '.join(needed)}.")
        elif not isinstance(self.attributes, Mapping):
            allowed = ", ".join(model.model_fields)
            yield Problem(("attributes",), f"is no mapping. Allowed keys: {allowed}.")
        else:
            for problem in (
                *find_problems(model, self.attributes),
                *_shared_rules(self.attributes),
            ):
                yield Problem(("attributes", *problem.keys), problem.text)

    def readable(self) -> _Read | None:
        """Return the component's class, and of its declaration what is valid; None if not ours."""
        if not isinstance(self.tree.value, Mapping) or not isinstance(self.attributes, Mapping):
            return None
        kind = _component_type(self.tree.value.get("type"))
        if isinstance(kind, Problem) or not issubclass(kind, DeclaredComponent):
            return None
        return kind, readable_part(kind.declared_by, self.attributes)

    def problems_around(self, around: Surroundings) -> Iterator[Problem]:
        """Say what is wrong with the document given what the others declare."""
        if (read := self.readable()) is not None:
            kind, declaration = read
            for problem in judge(kind.problems_of(declaration, around)):
                yield Problem(("attributes", *problem.keys), problem.text)

    def component(self) -> DeclaredComponent[Any] | None:
        """Make the component of a document that has no problem; ``None`` if it is not of ours."""
        kind = _component_type(self.tree.value["type"])
        if isinstance(kind, Problem) or not issubclass(kind, DeclaredComponent):
            return None
        return kind(kind.declared_by.model_validate(self.attributes))


def _unreadable(file: str, error: yaml.MarkedYAMLError) -> Finding:
    """Say where YAML cannot be read; without PyYAML's copy of the line, which may hold a secret."""
    mark = error.problem_mark or error.context_mark
    said = " ".join(filter(None, (error.context, error.problem)))
    text = without_secrets(f"is not YAML: {said}. Look at this line and the one before.")
    return Finding(file, mark.line + 1 if mark else 1, Problem((), text))


def _component_type(name: object) -> type[dg.Component] | Problem:
    """Import a component's class by the name that ``type`` holds."""
    if not isinstance(name, str):
        said = "is missing" if name is None else f"{name!r} is not the name of a class"
        return Problem(("type",), f"{said}. Allowed: {_known_types()}.")
    module_name, _, class_name = name.rpartition(".")
    try:
        kind = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        known = _known_types()
        hint = did_you_mean(name, known.split(", "))
        return Problem(("type",), f"{name!r} is unknown ({error}){hint or '.'} Allowed: {known}.")
    if not (isinstance(kind, type) and issubclass(kind, dg.Component)):
        return Problem(("type",), f"{name!r} is no component. Allowed: {_known_types()}.")
    return kind


def type_name(kind: type) -> str:
    """Return what a ``defs.yaml`` writes as ``type``: the shortest path a class is exported at.

    Parameters
    ----------
    kind
        A component.
    """
    package = kind.__module__.rpartition(".")[0]
    is_exported = getattr(import_module(package), kind.__name__, None) is kind
    return f"{package if is_exported else kind.__module__}.{kind.__qualname__}"


def _known_types() -> str:
    """Name the components of the platform; imports their modules, so only for an error."""
    package = import_module(__package__)
    prefix = f"{package.__name__}."
    for module in iter_modules(package.__path__, prefix):
        import_module(module.name)
    kinds = [k for k in DeclaredComponent.__subclasses__() if k.__module__.startswith(prefix)]
    return ", ".join(sorted(map(type_name, kinds)))


def _shared_rules(attributes: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the keys that mean the same in every component and that a model alone cannot judge.

    Loading would stop at the first of them, and only after all else is right.
    """
    from dagster._core.definitions.utils import is_valid_owner
    from dagster._utils.schedules import is_valid_cron_string

    owners = attributes.get("owners")
    for place, owner in enumerate(owners if isinstance(owners, list) else []):
        if isinstance(owner, str) and not is_valid_owner(owner):
            yield Problem(
                ("owners", place),
                f"{owner!r} is no owner. Allowed: an e-mail address, or a team as 'team:name'.",
            )
    cron = attributes.get("schedule")
    if isinstance(cron, str) and not is_valid_cron_string(cron):
        yield Problem(
            ("schedule",),
            f"{cron!r} is no cron line. Allowed: minute, hour, day of month, month and day of "
            "week, such as '0 6 * * *' for six every morning (UTC).",
        )


def _build(
    component: DeclaredComponent[Any], document: _Document, project_root: Path
) -> dg.Definitions | Problem | None:
    """Build a component on its own.

    Returns
    -------
    dagster.Definitions or Problem or None
        ``None`` if it failed and nothing in the document explains that: then it is a bug, which
        deserves its traceback.
    """
    context = replace(dg.ComponentTree.for_test().load_context, project_root=project_root)
    try:
        with quiet_about_beta():  # as Dagster is while it loads
            return component.build_defs(context)
    except FeatureError:
        return None  # told where the feature view is declared, or by the key that names it
    except Exception as error:  # noqa: BLE001 - only what a declared value explains is kept
        keys = choose_key(document.attributes, str(error))
        if keys:
            return Problem(("attributes", *keys), str(error))
        if type(error).__module__.startswith("mlops_assets."):
            return Problem(("attributes",), str(error))
        return None


def _declared_twice(definitions: dg.Definitions) -> bool:
    return any(count > 1 for count in Counter(_keys(definitions)).values())


def _keys(definitions: dg.Definitions) -> Iterator[dg.AssetKey]:
    """Yield the asset keys that definitions make, without resolving them."""
    for asset in definitions.assets or ():
        if isinstance(asset, dg.AssetsDefinition):
            yield from asset.keys
        elif isinstance(asset, dg.AssetSpec):
            yield asset.key


def _clashes(components: Sequence[tuple[_Document, dg.Definitions]]) -> Iterator[Finding]:
    """Find documents that make an asset which an earlier one makes already."""
    first: dict[dg.AssetKey, Finding] = {}
    for document, definitions in components:
        for key in _keys(definitions):
            name = "/".join(key.path)
            here = document.locate(Problem(_naming(document, name), ""))
            if key in first:
                earlier = first[key]
                yield replace(
                    here,
                    problem=Problem(
                        here.problem.keys,
                        f"{name!r} is declared already, at {earlier.file}:{earlier.line}. Each "
                        "asset is declared once; name this one otherwise, or remove it.",
                    ),
                )
                break
            first[key] = here


def _naming(document: _Document, name: str) -> tuple[Key, ...]:
    """Find the key whose value names an asset: the whole of it, or its first part."""
    for wanted in (name, name.partition("/")[0]):
        for keys, value in scalars(document.attributes):
            if value == wanted:
                return ("attributes", *keys)
    return ("attributes",)
