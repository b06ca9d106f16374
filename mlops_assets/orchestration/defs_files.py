"""Loading every ``defs.yaml`` of a project; and what is said, all at once, when one is wrong.

Dagster stops at the first error and shows it within a traceback, with the value as it is. So when
loading fails, the files are looked at again here, thoroughly: each document against the model of
its component, then by building the component on its own. What is found is one short message with
file, line, key, value and what is allowed. Loading that succeeds pays nothing for this.
"""

import re
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    choose_key,
    did_you_mean,
    find_problems,
    key_path,
    scalars,
    unknown_key,
    without_secrets,
)
from mlops_assets.orchestration.declared import DeclaredComponent

_NAMES = ("defs.yaml", "defs.yml")
_TOP_LEVEL = ("type", "attributes", "template_vars_module", "requirements", "post_processing")
_IMPORT_PATH = re.compile(r"[\w.]+:\w+")
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


def load_declared(project_root: Path) -> dg.Definitions:
    """Load what the ``defs`` folder of a project declares.

    Parameters
    ----------
    project_root
        Folder with the project's ``pyproject.toml``.

    Raises
    ------
    DeclarationsError
        If a ``defs.yaml`` is wrong: everything that is wrong in any of them.
    """
    try:
        definitions = dg.load_from_defs_folder(path_within_project=project_root)
        if not _declared_twice(definitions):
            return definitions
        findings = examine(project_root)
    except Exception:
        findings = examine(project_root)
        if not findings:
            raise
    if findings:
        # Here, so that Dagster's own error, which shows values as they are, is not its context.
        raise DeclarationsError(findings)
    return definitions


def examine(project_root: Path) -> list[Finding]:
    """Find everything that is wrong in the ``defs.yaml`` of a project.

    Parameters
    ----------
    project_root
        Folder with the project's ``pyproject.toml``.
    """
    folder = dg.ComponentTree.for_project(project_root).defs_module_path
    findings: list[Finding] = []
    documents: list[_Document] = []
    for path in sorted(found for name in _NAMES for found in folder.rglob(name)):
        file = path.relative_to(project_root).as_posix()
        try:
            trees = parse_yamls_with_source_position(path.read_text("utf-8"), file)
        except yaml.MarkedYAMLError as error:
            findings.append(_unreadable(file, error))
            continue
        documents += [_Document(file, tree) for tree in trees]
    components: list[tuple[_Document, dg.Definitions]] = []
    for document in documents:
        problems = list(document.problems())
        if not problems and (component := document.component()) is not None:
            built = _build(component, document, project_root)
            problems = [built] if isinstance(built, Problem) else []
            components += [(document, built)] if isinstance(built, dg.Definitions) else []
        findings += [document.locate(problem) for problem in problems]
    findings += _clashes(components)
    return sorted(findings, key=lambda finding: (finding.file, finding.line))


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
    contract = attributes.get("contract")
    if isinstance(contract, str) and _IMPORT_PATH.fullmatch(contract):
        yield from _contract_problems(contract)


def _contract_problems(path: str) -> Iterator[Problem]:
    from mlops_assets.orchestration.raw_table import import_contract

    try:
        import_contract(path)
    except (ValueError, TypeError) as error:
        if repr(path) not in str(error):  # not about the path, but from within the module
            yield Problem(("contract",), f"{path!r} cannot be imported: {_origin(error)}.")
        else:
            yield Problem(("contract",), f"{error}.")
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything, and it is shown
        yield Problem(("contract",), f"{path!r} cannot be imported: {_origin(error)}.")


def _origin(error: Exception) -> str:
    """Say what an error is and in which line of which file it arose."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    *_, frame = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"


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
        with warnings.catch_warnings():
            # Dagster is silent about its own beta parameters while it loads, and so is this.
            warnings.simplefilter("ignore", dg.BetaWarning)
            return component.build_defs(context)
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
