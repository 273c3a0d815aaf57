"""Rules about the shape of the source tree, read from its syntax trees.

`violations(root)` is the entry point; it returns every broken rule of the tree under `root` as one
line each, and `long_files(root)` what is not yet a violation but soon will be.

A rule is a function from a `Module` (one parsed file of the library, with its imports already
resolved) to the violations in it. `RULES` lists them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Lowest first. A module imports from its own layer and from those before it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"base"}),
    frozenset({"ir"}),
    frozenset({"primitives"}),
    frozenset({"passes"}),
    frozenset({"schedule"}),
    frozenset({"codegen"}),
    frozenset({"runtime"}),
    frozenset(
        {
            "__init__",
            "api",
            "numpy",
            "scipy",
            "nn",
            "random",
            "tree",
            "testing",
            "debug",
            "demo",
            "doctor",
        }
    ),
)
DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}

# Packages that only the runtime layer may import.
COMPILERS_AND_DEVICES = frozenset({"cupy", "cupyx", "cupy_backends", "llvmlite", "numba"})
# Packages that may be absent or are slow to load: imported inside the function that needs them.
ALWAYS_LAZY = COMPILERS_AND_DEVICES | {"matplotlib", "pynvml", "rich", "sklearn"}
# Packages that may also be imported inside a function, because not every program needs them.
MAYBE_LAZY = ALWAYS_LAZY | {"opt_einsum", "scipy"}
# The modules of the primitives layer that declare no primitive.
PRIMITIVES_OPEN_TO_PASSES = frozenset({"derivative_terms", "families"})
# The only file that reads environment variables.
SETTINGS = "autodiff/base/settings.py"

NAMES_THAT_SAY_NOTHING = frozenset({"common", "helper", "helpers", "misc", "util", "utils"})
LINES_AT_MOST = 800
LINES_AT_EASE = 500
MEASURED = ("autodiff", "bench", "kernels", "tests")
MEASURED_SUFFIXES = frozenset({".py", ".cu", ".cuh", ".h", ".c"})


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule, at a line of a file given relative to the root."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        """Return the violation as compilers print theirs."""
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module by its full name; `local` inside a function, `for_types` never run."""

    module: str
    line: int
    local: bool
    for_types: bool


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed file of the library. `place` is its first path component below `autodiff`."""

    path: str
    place: str
    tree: ast.Module
    imports: tuple[Import, ...]


def violations(root: Path) -> list[Violation]:
    """Return every broken rule in the tree whose `autodiff` folder lies in `root`."""
    found = [*_file_names(root), *_file_lengths(root)]
    for path in sorted((root / "autodiff").rglob("*.py")):
        module = _parse(root, path)
        for rule in RULES:
            found.extend(rule(module))
    return found


def long_files(root: Path) -> list[str]:
    """Return a sentence for each file that is long but not yet too long."""
    return [
        f"{name} has {length} lines; more than {LINES_AT_MOST} is a failure."
        for name, length in _measured(root)
        if LINES_AT_EASE < length <= LINES_AT_MOST
    ]


def _parse(root: Path, path: Path) -> Module:
    relative = path.relative_to(root)
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(relative))
    place = relative.parts[1].removesuffix(".py")
    return Module(relative.as_posix(), place, tree, tuple(_imports(root, path, tree)))


# ---- what a file imports


def _imports(root: Path, path: Path, tree: ast.Module) -> Iterator[Import]:
    package = path.relative_to(root).parent.parts

    def visit(node: ast.AST, local: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            local = True
        for name in _imported_names(root, package, node):
            yield Import(name, node.lineno, local, for_types)  # type: ignore[attr-defined]
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                yield from visit(child, local, True)
            for child in node.orelse:
                yield from visit(child, local, for_types)
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, local, for_types)

    return visit(tree, False, False)


def _imported_names(root: Path, package: tuple[str, ...], node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom():
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*above, *((node.module,) if node.module else ())))
            whole = [f"{source}.{alias.name}" for alias in node.names]
            yield from dict.fromkeys(name if _is_module(root, name) else source for name in whole)
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield name


def _is_module(root: Path, name: str) -> bool:
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def _place_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "autodiff"


# ---- rules about one module


def imports_point_downwards(module: Module) -> Iterator[Violation]:
    """A layer imports from itself and from the layers below it."""
    if module.place not in DEPTH:
        text = f"`{module.place}` belongs to no layer; give it one in tests/layering_rules.py"
        yield Violation(module.path, 1, text)
        return
    for imported in module.imports:
        if not _is_ours(imported.module):
            continue
        place = _place_of(imported.module)
        if place not in DEPTH:
            text = f"imports {imported.module}, which belongs to no layer"
            yield Violation(module.path, imported.line, text)
        elif DEPTH[place] > DEPTH[module.place]:
            text = f"{module.place} imports upwards: {imported.module}"
            yield Violation(module.path, imported.line, text)


def imports_stand_at_the_top(module: Module) -> Iterator[Violation]:
    """Only a package that may be absent or is slow to load is imported inside a function."""
    for imported in module.imports:
        package = imported.module.split(".")[0]
        lazy_by_right = package in MAYBE_LAZY or package in sys.stdlib_module_names
        if imported.local and not lazy_by_right:
            text = f"imports {imported.module} inside a function"
            yield Violation(module.path, imported.line, text)
        if package in ALWAYS_LAZY and not imported.local and not imported.for_types:
            text = f"imports {package} at module level; import it in the function that needs it"
            yield Violation(module.path, imported.line, text)


def only_runtime_meets_compilers_and_devices(module: Module) -> Iterator[Violation]:
    """CuPy, Numba and llvmlite are imported nowhere but in the runtime layer."""
    for imported in module.imports:
        package = imported.module.split(".")[0]
        if package in COMPILERS_AND_DEVICES and module.place != "runtime":
            text = f"imports {package}, which only autodiff/runtime may do"
            yield Violation(module.path, imported.line, text)


def passes_know_no_single_primitive(module: Module) -> Iterator[Violation]:
    """A pass asks traits; it does not import the primitives it would compare with."""
    if module.place != "passes":
        return
    for imported in module.imports:
        if imported.module.startswith("autodiff.primitives"):
            parts = imported.module.split(".")
            if len(parts) < 3 or parts[2] not in PRIMITIVES_OPEN_TO_PASSES:
                text = f"a pass imports {imported.module}; ask a trait of the primitive instead"
                yield Violation(module.path, imported.line, text)


def primitives_are_not_told_apart_by_name(module: Module) -> Iterator[Violation]:
    """Outside the primitives layer, no primitive's name is compared with text."""
    if module.place == "primitives":
        return
    texts = _module_level_texts(module.tree)
    for node in ast.walk(module.tree):
        match node:
            case ast.Compare():
                sides = [node.left, *node.comparators]
                guilty = any(map(_is_name_of_primitive, sides)) and any(
                    _is_text(side, texts) for side in sides
                )
            case ast.Call(func=ast.Attribute(value=value, attr="startswith" | "endswith")):
                guilty = _is_name_of_primitive(value)
            case ast.Match():
                guilty = _is_name_of_primitive(node.subject)
            case _:
                continue
        if guilty:
            text = "tells a primitive by its name; ask a trait of the primitive instead"
            yield Violation(module.path, node.lineno, text)


def _is_name_of_primitive(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr="name"):
            return owner.split("_")[-1] in {"prim", "primitive", "op", "operation"}
    return False


def _is_text(node: ast.expr, texts: frozenset[str]) -> bool:
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            return any(_is_text(item, texts) for item in items)
        case ast.Dict(keys=keys):
            return any(key is not None and _is_text(key, texts) for key in keys)
        case ast.Call(func=ast.Name(id="frozenset" | "set" | "tuple" | "dict"), args=[items]):
            return _is_text(items, texts)
        case ast.Name(id=name):
            return name in texts
    return False


def _module_level_texts(tree: ast.Module) -> frozenset[str]:
    """Return the names that stand for text, or for a collection of it, in the whole file."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if _is_text(value, frozenset(names)):
                names.add(name)
    return frozenset(names)


def settings_alone_read_the_environment(module: Module) -> Iterator[Violation]:
    """Environment variables are read where the table of settings is, and nowhere else."""
    if module.path == SETTINGS:
        return
    readers = {"environ", "environb", "getenv", "getenvb"}
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "os"
    }
    for node in ast.walk(module.tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                guilty = owner in aliases and attribute in readers
            case ast.ImportFrom(module="os"):
                guilty = any(alias.name in readers for alias in node.names)
            case _:
                continue
        if guilty:
            text = f"reads the environment, which only {SETTINGS} may do"
            yield Violation(module.path, node.lineno, text)


RULES: tuple[Callable[[Module], Iterator[Violation]], ...] = (
    imports_point_downwards,
    imports_stand_at_the_top,
    only_runtime_meets_compilers_and_devices,
    passes_know_no_single_primitive,
    primitives_are_not_told_apart_by_name,
    settings_alone_read_the_environment,
)


# ---- rules about files


def _measured(root: Path) -> Iterator[tuple[str, int]]:
    for folder in MEASURED:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in MEASURED_SUFFIXES and path.is_file():
                length = len(path.read_text(encoding="utf-8").splitlines())
                yield path.relative_to(root).as_posix(), length


def _file_lengths(root: Path) -> Iterator[Violation]:
    for name, length in _measured(root):
        if length > LINES_AT_MOST:
            text = f"has {length} lines, more than {LINES_AT_MOST}; divide it"
            yield Violation(name, LINES_AT_MOST + 1, text)


def _file_names(root: Path) -> Iterator[Violation]:
    for folder in MEASURED:
        for path in sorted((root / folder).rglob("*")):
            stem = path.stem.strip("_")
            named = stem in NAMES_THAT_SAY_NOTHING or stem.endswith(("_utils", "_helpers"))
            if named and (path.suffix in MEASURED_SUFFIXES or path.is_dir()):
                text = f"the name `{path.stem}` says nothing about what is inside"
                yield Violation(path.relative_to(root).as_posix(), 1, text)
