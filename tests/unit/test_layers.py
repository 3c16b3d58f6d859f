"""Imports point down, layers do not know their siblings, and heavy libraries are imported where they are used."""

import ast
import graphlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import pytest_llmopt

ROOT = Path(pytest_llmopt.__file__).parent
PACKAGE = ROOT.name
BELOW = {
    "core": set(),
    "statistics": {"core"},
    "engines": {"core"},
    "optimizations": {"core"},
    "relations": {"core"},
    "appliers": {"core", "engines", "optimizations"},
    "checks": {"core", "statistics"},
    "runtime": {"core", "statistics", "engines", "optimizations"},
    "reporting": {"core", "statistics", "engines", "optimizations", "checks", "runtime", "diagnosis"},
    "diagnosis": {"core", "statistics", "engines", "optimizations", "checks", "runtime"},
}
"""What the files of a folder may import beside their own folder; files of no folder are the pytest face, on top."""
VERSION = f"{PACKAGE}._version"
"""A constant that every layer may import. The package itself is the face: it resolves its names lazily."""
FACE = "face"
ARITHMETIC = {"numpy", "scipy", "packaging", "psutil"}
HEAVY = {
    "torch",
    "transformers",
    "torchao",
    "bitsandbytes",
    "vllm",
    "onnxruntime",
    "accelerate",
    "safetensors",
    "openai",
}
ASKS_FOR_GPUS = f"{PACKAGE}.core.requirements"
"""The one file below the engines that imports torch, inside a function: to ask what GPUs there are."""


@dataclass(frozen=True)
class Import:
    """One imported module, as a file names it."""

    source: str
    target: str
    line: int
    in_function: bool
    for_types: bool

    @property
    def library(self):
        return self.target.partition(".")[0]

    def __str__(self):
        return f"{self.source}:{self.line} imports {self.target}"


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] not in {"fixtures", "suites"}
}


def imports_of(module, path):
    """Every import statement of a file, with where it stands."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node, *, in_function=False, for_types=False):
        for child in ast.iter_child_nodes(node):
            inside = in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            typing = for_types or (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"))
            for target in targets(child):
                yield Import(module, target, child.lineno, in_function, for_types)
            yield from walk(child, in_function=inside, for_types=typing)

    def targets(node):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base

    yield from walk(ast.parse(path.read_text(encoding="utf-8")))


IMPORTS = [item for module, path in MODULES.items() for item in imports_of(module, path)]
OURS = [item for item in IMPORTS if item.library == PACKAGE and item.target != VERSION]
THEIRS = [item for item in IMPORTS if item.library != PACKAGE]


def folder_of(module):
    """The folder of a module inside the package, or the face for a file of no folder."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / parts[1]).is_dir() else FACE


def listed(imports):
    return [str(item) for item in imports]


def test_the_walk_sees_the_imports_that_are_there():
    """A test of the other tests: they would pass on an empty list."""
    seen = {(item.source, item.target): item for item in IMPORTS}
    assert len(MODULES) > 30
    assert (f"{PACKAGE}.engines.transformers", f"{PACKAGE}.engines._transformers.scoring") in seen
    assert seen[f"{PACKAGE}.engines._transformers.model_loading", "torch"].in_function
    assert seen[f"{PACKAGE}.core.engine", f"{PACKAGE}.core.requests"].for_types
    assert not seen[f"{PACKAGE}.core.logprobs", "numpy"].in_function


def test_every_folder_has_its_place_among_the_layers():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders - {"fixtures", "suites"} <= BELOW.keys()


@pytest.mark.parametrize("folder", BELOW)
def test_imports_point_down_and_never_to_a_sibling(folder):
    allowed = {folder, *BELOW[folder]}
    own = [item for item in OURS if folder_of(item.source) == folder]
    assert listed(item for item in own if folder_of(item.target) not in allowed) == []


def test_only_the_face_imports_pytest():
    libraries = {"pytest", "_pytest", "pluggy", "typer"}
    offending = [item for item in THEIRS if item.library in libraries and folder_of(item.source) != FACE]
    assert listed(offending) == []


@pytest.mark.parametrize("folder", ["core", "statistics"])
def test_the_bottom_imports_arithmetic_and_the_standard_library_only(folder):
    allowed = ARITHMETIC | sys.stdlib_module_names
    own = [item for item in THEIRS if folder_of(item.source) == folder]
    offending = [item for item in own if item.library not in allowed]
    assert listed(item for item in offending if (item.source, item.library) != (ASKS_FOR_GPUS, "torch")) == []


def test_heavy_libraries_are_imported_inside_functions_only():
    heavy = [item for item in THEIRS if item.library in HEAVY]
    assert heavy
    assert listed(item for item in heavy if not item.in_function and not item.for_types) == []


def test_heavy_libraries_are_imported_by_engines_and_optimizations_only():
    """A check or a statistic that needs torch could not judge an engine on another machine."""
    heavy = [item for item in THEIRS if item.library in HEAVY and item.source != ASKS_FOR_GPUS]
    assert (
        listed(item for item in heavy if folder_of(item.source) not in {"engines", "optimizations", "appliers"}) == []
    )


def test_an_optimization_imports_no_other_one():
    own = [item for item in OURS if folder_of(item.source) == folder_of(item.target) == "optimizations"]
    assert listed(item for item in own if not item.target.rpartition(".")[2].startswith("_")) == []


@pytest.mark.parametrize("also", ["at import", "in functions", "for types"])
def test_there_is_no_import_cycle(also):
    graph = {module: set() for module in MODULES}
    for item in OURS:
        counts = {"at import": not item.in_function and not item.for_types, "in functions": not item.for_types}
        # The package itself is the face that names come from, and resolves them when they are used.
        if counts.get(also, True) and item.source not in (item.target, PACKAGE):
            graph[item.source].add(item.target)
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_every_imported_module_of_ours_exists():
    assert listed(item for item in OURS if item.target not in MODULES) == []


def test_importing_every_file_of_ours_imports_no_heavy_library():
    code = f"import importlib, sys\nfor name in {sorted(MODULES)}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) & HEAVY == set()
