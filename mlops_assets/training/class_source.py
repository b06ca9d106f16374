"""What a class at an import path is, read from its source without importing it.

Importing scikit-learn takes a second, and other libraries longer, which loading a code location
cannot afford. So files are found as Python would find them, without running the packages above
them, and read by `ast`: classes, re-exports, bases. What cannot be told so (a compiled module, a
module with ``__getattr__``, a base that is computed) is said not to be known, never guessed.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from mlops_assets.declaration import did_you_mean

_DEEPEST = 20  # re-exports to follow
_Definition = ast.FunctionDef | ast.AsyncFunctionDef


class ClassNotFoundError(LookupError):
    """There is no class at an import path; the message names the nearest that there is."""


@dataclass(frozen=True)
class ClassSource:
    """What the source of a class and of its bases says.

    Attributes
    ----------
    methods
        Names of its methods, inherited ones included.
    parameters
        Names that its ``__init__`` takes; None where it takes any, or cannot be read.
    is_whole
        Whether every base has been read, so that a method that is not there is none.
    """

    methods: frozenset[str]
    parameters: tuple[str, ...] | None
    is_whole: bool


def class_source(path: str) -> ClassSource | None:
    """Read what stands at an import path.

    Parameters
    ----------
    path
        ``package.module:Class``.

    Returns
    -------
    ClassSource or None
        None where the source does not tell.

    Raises
    ------
    ClassNotFoundError
        When a module or the class does not exist.
    """
    module, _, name = path.partition(":")
    spec = _require(module)
    found = _resolve(module, name)
    if isinstance(found, _Class):
        return _read(found)
    if _submodule(module, spec, name) is not None:
        raise ClassNotFoundError(f"{module}.{name} is a module, and no class")
    source = _module(module)
    if found is not None or source is None:
        return None
    near = did_you_mean(name, [each for each in source.names if not each.startswith("_")])
    raise ClassNotFoundError(f"module {module} has no {name!r}{near}")


# Finding modules ----------------------------------------------------------------------------------


def _require(module: str) -> ModuleSpec:
    """Find a module, or say which part of its name is wrong."""
    spec: ModuleSpec | None = None
    known = ""
    for part in module.split("."):
        below = _submodule(known, spec, part)
        if below is None:
            if spec is None:
                near = did_you_mean(part, packages_distributions())
                raise ClassNotFoundError(f"no module {part!r} is installed{near}")
            near = did_you_mean(part, _submodules(spec))
            raise ClassNotFoundError(f"package {known} has no module {part!r}{near}")
        spec, known = below, f"{known}.{part}".removeprefix(".")
    if spec is None:
        raise ClassNotFoundError("it names no module")
    return spec


def _submodule(package: str, spec: ModuleSpec | None, name: str) -> ModuleSpec | None:
    """Find a module in a package, or a top-level one, without importing what is above it."""
    if spec is None:
        return find_spec(name)  # of a top-level name, this imports nothing
    if spec.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(f"{package}.{name}", list(spec.submodule_search_locations))


def _submodules(spec: ModuleSpec) -> Iterator[str]:
    for folder in spec.submodule_search_locations or ():
        for path in Path(folder).iterdir():
            name = path.name.partition(".")[0]
            if name.isidentifier() and not name.startswith("_"):
                yield name


# Reading modules ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Class:
    """A class where it is defined."""

    module: str
    node: ast.ClassDef


@dataclass(frozen=True)
class _Elsewhere:
    """A name that a module takes from another one; an empty name is that module itself."""

    module: str
    name: str


_Bound = _Class | _Elsewhere | None  # None: something that is not told


@dataclass(frozen=True)
class _Module:
    """What the names of a module are bound to.

    Attributes
    ----------
    is_whole
        Whether these are all of its names.
    """

    names: dict[str, _Bound]
    is_whole: bool


@cache
def _module(name: str) -> _Module | None:
    """Read a module; None where there is no source of it."""
    try:
        spec = _require(name)
    except ClassNotFoundError:
        return None
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
    names: dict[str, _Bound] = {}
    is_whole = True
    for node in _statements(ast.parse(Path(spec.origin).read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            origin = _origin(node, package)
            there = _module(origin)
            is_whole = is_whole and there is not None and there.is_whole
            bound: dict[str, _Bound] = {}
            if there is not None:
                bound.update((each, _Elsewhere(origin, each)) for each in there.names)
        else:
            bound = dict(_bindings(node, name, package))
        for each, value in bound.items():
            names.setdefault(each, value)  # of an `if` or a `try`, its first branch
    return _Module(names, is_whole and "__getattr__" not in names)


def _bindings(node: ast.stmt, module: str, package: str) -> Iterator[tuple[str, _Bound]]:
    """Yield what a statement of a module binds."""
    match node:
        case ast.ClassDef():
            yield node.name, _Class(module, node)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node.name, None
        case ast.ImportFrom():
            for alias in node.names:
                yield alias.asname or alias.name, _Elsewhere(_origin(node, package), alias.name)
        case ast.Import():
            for alias in node.names:
                bound = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or bound, _Elsewhere(bound, "")
        case ast.Assign():
            value = node.value
            same = _Elsewhere(module, value.id) if isinstance(value, ast.Name) else None
            yield from ((t.id, same) for t in node.targets if isinstance(t, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name, None


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those under ``if``, ``try`` and ``with`` too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _statements(child)
        elif isinstance(child, ast.stmt):
            yield child


def _origin(node: ast.ImportFrom, package: str) -> str:
    """Return the full name of the module that names are imported from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _resolve(module: str, name: str, depth: int = 0) -> _Class | _Elsewhere | None:
    """Follow a name to where its class is defined.

    Returns
    -------
    _Class or _Elsewhere or None
        Something other than a class is where it could not be followed; None: it is not there.
    """
    source = _module(module)
    unknown = _Elsewhere(module, name)
    if source is None or depth > _DEEPEST:
        return unknown
    if name not in source.names:
        return None if source.is_whole else unknown
    bound = source.names[name]
    if not isinstance(bound, _Elsewhere):
        return bound or unknown
    return _resolve(bound.module, bound.name, depth + 1) or unknown


# Reading classes ----------------------------------------------------------------------------------


def _read(found: _Class, depth: int = 0) -> ClassSource:
    methods: set[str] = set()
    parameters: tuple[str, ...] | None = ()
    is_told = bool(found.node.decorator_list)  # a decorator, such as dataclass, may write one
    if is_told:
        parameters = None
    for node in _statements(found.node):
        if isinstance(node, _Definition):
            methods.add(node.name)
            if node.name == "__init__":
                is_told, parameters = True, _parameters(node)
        elif isinstance(node, ast.Assign):
            methods.update(target.id for target in node.targets if isinstance(target, ast.Name))
    is_whole = "__getattr__" not in methods and not any(map(_is_unknown, found.node.keywords))
    for base in found.node.bases:
        inherited = _base(found.module, base, depth) if depth < _DEEPEST else None
        if inherited is None:
            inherited = ClassSource(frozenset(), None, is_whole=False)
        methods |= inherited.methods
        is_whole = is_whole and inherited.is_whole
        if not is_told and ("__init__" in inherited.methods or not inherited.is_whole):
            is_told, parameters = True, inherited.parameters
    return ClassSource(frozenset(methods), parameters, is_whole)


def _is_unknown(keyword: ast.keyword) -> bool:
    """Whether a keyword of a class may add methods; that of abstract classes adds none."""
    return ast.unparse(keyword.value).rpartition(".")[2] != "ABCMeta"


def _base(module: str, base: ast.expr, depth: int) -> ClassSource | None:
    """Read a base of a class; None where it cannot be followed."""
    if isinstance(base, ast.Subscript):
        base = base.value
    if isinstance(base, ast.Name):
        if base.id == "object":
            return ClassSource(frozenset(), (), is_whole=True)
        found = _resolve(module, base.id)
    elif isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
        source = _module(module)
        owner = source.names.get(base.value.id) if source else None
        if not isinstance(owner, _Elsewhere):
            return None
        there = owner.module if not owner.name else f"{owner.module}.{owner.name}"
        found = _resolve(there, base.attr)
    else:
        return None
    return _read(found, depth + 1) if isinstance(found, _Class) else None


def _parameters(node: _Definition) -> tuple[str, ...] | None:
    if node.args.kwarg is not None:
        return None
    takes = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return tuple(argument.arg for argument in takes[1:])
