"""What a verdict depends on, as a digest: another check, mutant or judge is another one, another report is not."""

from __future__ import annotations

import ast
import hashlib
import inspect
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutation import HERE, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = HERE.parent.parent
PACKAGE = ROOT / "pytest_llmopt"
RUNS = ("core", "engines", "runtime")
"""The parts of the package that every judge's candidate runs on."""
JUDGES = ("checks", "relations", "statistics")
"""The parts that only our own gate adds."""
LIBRARIES = ("torch", "transformers", "numpy", "bitsandbytes", "hqq", "peft")
OURS = "gate"
"""The judge that is this package."""


def verdict_digest(entry: Entry, judge: str) -> str:
    """Of the files and versions that decide what a judge says of an entry: 12 hex digits."""
    return digest_of(files_of(entry, judge))


def files_of(entry: Entry, judge: str) -> set[Path]:
    """The files that decide what a judge says of an entry."""
    files = _files_of(RUNS) | imported(HERE / "judging.py") | imported(HERE / "judges" / f"{judge}.py")
    for kind in (entry.kind, *entry.kind.both):
        files |= imported(Path(inspect.getfile(kind)))
    for name, _ in (*entry.kind.base, *entry.kind.against):
        files |= imported(PACKAGE / "optimizations" / f"{name.replace('.', '/')}.py")
    if judge == OURS:
        # The test run that judges what patches classes goes through every layer of the package.
        files |= _files_of(("",) if entry.kind.patches_reference else JUDGES)
    return files | {*_models_of(entry), ROOT / "fixtures" / "prompts" / "default.jsonl"}


def digest_of(files: Iterable[Path]) -> str:
    """Of the names and contents of files, and of the versions of the libraries."""
    found = hashlib.sha256(" ".join(f"{name} {_version(name)}" for name in LIBRARIES).encode())
    for file in sorted(files):
        found.update(
            f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name} {_content(file)}\n".encode()
        )
    return found.hexdigest()[:12]


@cache
def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return "none"


def _files_of(folders: Iterable[str]) -> set[Path]:
    return {file for folder in folders for file in (PACKAGE / folder).rglob("*.py")}


def _models_of(entry: Entry) -> set[Path]:
    name = entry.kind.models[0]
    folders = (ROOT / "fixtures" / "models").glob(f"{name}*")
    return {file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()}


@cache
def imported(file: Path) -> frozenset[Path]:
    """A file of the project and all that it imports, at whatever depth; what only annotations need is left out."""
    found: set[Path] = set()
    left = [file]
    while left:
        current = left.pop()
        if current not in found and current.is_file():
            found.add(current)
            left += _imports_of(current)
    return frozenset(found)


def _imports_of(file: Path) -> Iterator[Path]:
    for node in _needed(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield from _places(name)


def _places(name: str) -> Iterator[Path]:
    path = Path(*name.split("."))
    # The package's own front imports lazily: what it offers is not what a file of it needs.
    roots = (ROOT,) if path.parts[0] == PACKAGE.name else (HERE,)
    for root in roots:
        for place in (root / path.with_suffix(".py"), root / path / "__init__.py"):
            if place.is_file() and place != PACKAGE / "__init__.py":
                yield place


def _needed(node: Any) -> Iterator[Any]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _needed(child)
