"""The source files that a stage really uses, with their digests, found without importing anything.

The closure of a module is its own file, the `__init__.py` of every package on the way to it (they run), and
the closure of each module of the same top-level package that it imports, wherever the import stands (a
function body too). Imports below `if TYPE_CHECKING:` do not run and do not count. An import whose name is
computed at run time cannot be seen; name such a module as a further argument of `sources`.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from .errors import SnakedvcError

_FOLDERS = ("src", ".")  # where packages lie, relative to the repository


def sources(*modules: str, files: Iterable[str] = ()) -> dict[str, str]:
    """Return `{repository-relative path: sha256}` of all source files that the modules use, sorted by path.

    Args:
        modules: dotted names, located below `src/` or the working directory (Snakemake's: the repository).
        files: further repository-relative files that the code reads and that belong to it (a style sheet).

    Raises:
        SnakedvcError: a module or file does not exist, or a source file does not parse.
    """
    root = Path.cwd()
    paths = set(files)
    for module in modules:
        paths |= _closure(root, module)
    return {path: _digest(root, path) for path in sorted(paths)}


def forget() -> None:
    """Drop what this process has read, so that the next call looks at the files again."""
    for cached in (_digest, _closure, _imports, _locate):
        cached.cache_clear()


@cache
def _digest(root: Path, path: str) -> str:
    try:
        return hashlib.sha256((root / path).read_bytes()).hexdigest()
    except OSError as error:
        raise SnakedvcError(f"Source file '{path}' cannot be read: {error.strerror}.") from error


@cache
def _closure(root: Path, module: str) -> frozenset[str]:
    if _locate(root, module) is None:
        places = " or ".join(f"{folder}/{module.replace('.', '/')}.py" for folder in _FOLDERS)
        raise SnakedvcError(f"Module '{module}' does not exist: neither {places} nor a package of that name.")
    seen: set[str] = set()
    waiting = [module]
    paths = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        package, _, _ = name.rpartition(".")
        if package:
            waiting.append(package)
        path = _locate(root, name)
        if path:
            paths.add(path)
            waiting += _imports(root, path, name)
    return frozenset(paths)


@cache
def _locate(root: Path, module: str) -> str | None:
    """Return the file of a module, "" for a package without `__init__.py`, None if there is no such module."""
    stem = module.replace(".", "/")
    for folder in _FOLDERS:
        for path in (Path(folder, stem, "__init__.py"), Path(folder, f"{stem}.py")):
            if (root / path).is_file():
                return path.as_posix()
    return "" if any((root / folder / stem).is_dir() for folder in _FOLDERS) else None


@cache
def _imports(root: Path, path: str, module: str) -> tuple[str, ...]:
    try:
        tree = ast.parse((root / path).read_bytes(), filename=path)
    except SyntaxError as error:
        raise SnakedvcError(f"Source file '{path}' does not parse: {error.msg} (line {error.lineno}).") from error
    package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
    top = module.partition(".")[0]
    found: set[str] = set()
    for node in _running(tree):
        for name, optional in _names(node, package, path):
            if name.partition(".")[0] != top:
                continue
            if _locate(root, name) is not None:
                found.add(name)
            elif not optional:
                raise SnakedvcError(f"Module '{name}', imported in '{path}', does not exist.")
    return tuple(sorted(found))


def _names(node: ast.AST, package: str, path: str) -> Iterator[tuple[str, bool]]:
    """Yield (module, may be no module) for each name that the node imports."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, False) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            if node.level > len(parts):
                raise SnakedvcError(f"Relative import on line {node.lineno} of '{path}' leaves its package.")
            above = ".".join(parts[: len(parts) - node.level + 1])
            base = f"{above}.{base}" if base else above
        yield base, False
        yield from ((f"{base}.{alias.name}", True) for alias in node.names if alias.name != "*")
    elif isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        name = first.value if isinstance(first, ast.Constant) else None
        if called in ("import_module", "__import__") and isinstance(name, str) and not name.startswith("."):
            yield name, False


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk all nodes but the bodies of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for statement in child.orelse:
                yield statement
                yield from _running(statement)
        else:
            yield from _running(child)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"
