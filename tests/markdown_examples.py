"""The examples of README.md and docs/, collected beside the tests and run.

A page with test functions is one project: what an entry point on the page names goes to the module that it names, hooks
and fixtures go to a conftest.py, test functions to one test file. It runs against tiny-llama with few prompts. Where
that takes what is not here, as `COLLECTED` says, its tests are collected, so that markers and options are still
checked. Other blocks are parsed. Every command on a page has to have options that exist.
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import re
import sys
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from pytest_llmopt.options import OPTIONS

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^    ((?:llmopt|pytest|make) .*)$|`((?:llmopt|pytest|make) [^`\n]+)`", re.MULTILINE)
PRELUDE = "from pytest_llmopt import llmopt\n\n"
ARGUMENTS = ("-q", "--llmopt-model=tiny-llama", "--llmopt-inconclusive=warn", "--benchmark-disable", "-p", "no:xdist")
"""Four prompts seldom decide about accuracy, and a machine that runs tests side by side never about speed."""
COLLECTED = {
    "add-a-quantizer.md": "tests/integration/test_third_party_quantizer.py runs it, installed as a package",
    "lossless.md": "names a draft on the hub",
    "markers.md": "names a GPU, and functions without a body",
    "quantization.md": "names an adapter of the reader's",
}
"""Pages whose tests are collected and not run, with the reason."""
FAILING = {"first-gate.md": {"test_my_kernel"}}
"""Tests that a page shows as failures."""
CONTINUES = {"first-gate.md": "README.md"}
"""Pages that take the conftest.py of another."""
STAND_INS = {
    "Reordered": """
from dataclasses import dataclass

from pytest_llmopt import Promise


@dataclass(frozen=True)
class Reordered:
    promise = Promise.EQUIVALENT
    requirements = ()
    conflicts = {}

    def for_transformers(self, plan): ...
"""
}
"""What a page names and leaves to the reader."""


@dataclass(frozen=True)
class Page:
    """A page of Markdown."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Page:
        """The page in a file."""
        return cls(path, path.read_text(encoding="utf-8"))

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language."""
        return [text for name, text in FENCED.findall(self.text) if name == language]

    def commands(self) -> list[str]:
        """The commands in indented lines and in the text, without their comments."""
        found = COMMAND.findall(FENCED.sub("", self.text))
        return [(line or inline).partition("#")[0].strip() for line, inline in found]

    def entry_points(self) -> dict[str, dict[str, str]]:
        """What the page's pyproject.toml offers, by group."""
        groups: dict[str, dict[str, str]] = {}
        for block in self.blocks("toml"):
            groups |= tomllib.loads(block).get("project", {}).get("entry-points", {})
        return groups

    def files(self) -> dict[str, str]:
        """The project that the page shows: contents by path; without blocks that are parts of something else."""
        targets = [target.partition(":") for group in self.entry_points().values() for target in group.values()]
        modules = {name: module for module, _, name in targets}
        files = {f"site/{modules[name].replace('.', '/')}.py": STAND_INS[name] for name in STAND_INS if name in modules}
        for block in self.blocks("python"):
            body = ast.parse(block).body
            names = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
            own = [module for name, module in modules.items() if name in names]
            if own:
                files[f"site/{own[0].replace('.', '/')}.py"] = block
            elif not all(map(_is_here, _imported(body))):
                continue
            elif any(name.startswith("test_") for name in names):
                files["test_page.py"] = files.get("test_page.py", PRELUDE) + block + "\n\n"
            elif any(name.startswith("pytest_") or name == "prompts" for name in names):
                files["conftest.py"] = files.get("conftest.py", "") + block + "\n\n"
        return files


class PageFile(pytest.File):
    """A page whose examples are tests."""

    def collect(self):
        """Its commands and settings, and its project where it has one."""
        page = Page.read(self.path)
        checks = {"settings": partial(check_settings, page)}
        if page.commands():
            checks["commands"] = partial(check_commands, page)
        if "test_page.py" in page.files():
            checks["project"] = partial(check_project, page)
        for name, check in checks.items():
            item = pytest.Function.from_parent(self, name=name, callobj=_taking_fixtures(name, check))
            item.add_marker(pytest.mark.xdist_group("examples"))
            item.add_marker(pytest.mark.near_limit("examples judge few prompts; that they run is what is tested"))
            yield item


def _taking_fixtures(name, check):
    def of_project(project):
        check(project)

    def of_config(pytestconfig):
        check(pytestconfig)

    return of_project if name == "project" else of_config


def check_settings(page: Page, config) -> None:
    """Every block parses; settings of pytest have names that exist."""
    for block in page.blocks("python"):
        ast.parse(block)
    settings = [tomllib.loads(block).get("tool", {}).get("pytest", {}) for block in page.blocks("toml")]
    named = [name for table in settings for name in {**table, **table.get("ini_options", {})}]
    for block in page.blocks("ini"):
        parsed = configparser.ConfigParser()
        parsed.read_string(block)
        named += parsed["pytest"]
    unknown = {name for name in named if name.startswith("llmopt_")} - {option.ini for option in OPTIONS.values()}
    assert not unknown, f"{page.path}: no such settings: {sorted(unknown)}"
    flags = set(re.findall(r"--llmopt-[\w-]*\w", page.text)) - _flags(config)
    assert not flags, f"{page.path}: no such options: {sorted(flags)}"


def check_commands(page: Page, config) -> None:
    """Every command has options that exist, or makes what can be made."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in page.commands():
        program, *words = command.split()
        if program == "make":
            wrong = {word for word in words if "=" not in word} - targets
        else:
            used = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", " ".join(words)))
            wrong = used - _flags(config) - (_gate_options() if program == "llmopt" else set())
        assert not wrong, f"{page.path}: {command!r}: there is no {', '.join(sorted(wrong))}"


def check_project(page: Page, project) -> None:
    """The tests of a page pass as it says, or can be collected."""
    files = page.files()
    if page.path.name in CONTINUES:
        files["conftest.py"] = Page.read(ROOT / CONTINUES[page.path.name]).files()["conftest.py"]
    for name, content in files.items():
        target = project.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    if page.entry_points():
        _install(page, project)
    if page.path.name in COLLECTED and page.entry_points():
        return  # the names that an entry point adds are not here
    if page.path.name in COLLECTED:
        result = project.runpytest(*ARGUMENTS, "--collect-only")
        assert result.ret == pytest.ExitCode.OK, result.stdout.str()
        return
    result = project.runpytest(*ARGUMENTS, "-rA")
    outcomes = {key: count for key, count in result.parseoutcomes().items() if not key.startswith("warning")}
    failing = FAILING.get(page.path.name, set())
    failed = set(re.findall(r"^(?:FAILED|ERROR) test_page.py::(\w+)", result.stdout.str(), re.MULTILINE))
    assert failed == failing, result.stdout.str()
    assert set(outcomes) <= {"passed", "failed", "skipped"}
    assert sum(outcomes.values()), "the page has tests, and none ran"


def _install(page: Page, project) -> None:
    """Metadata beside the page's modules, as an installer leaves it."""
    folder = project.path / "site" / "llmopt_page-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: llmopt-page\nVersion: 1.0\n", encoding="utf-8")
    lines = []
    for group, entries in page.entry_points().items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    project.syspathinsert(project.path / "site")


def _imported(body) -> set[str]:
    """The packages that a block imports at its top."""
    plain = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    return {name.partition(".")[0] for name in plain | {n.module for n in body if isinstance(n, ast.ImportFrom)}}


def _is_here(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _flags(config) -> set[str]:
    """Every option of this pytest and its plugins."""
    parser = config._parser
    return {name for group in (parser._anonymous, *parser._groups) for item in group.options for name in item.names()}


def _gate_options() -> set[str]:
    import typer

    from pytest_llmopt.cli import app

    command = typer.main.get_command(app).commands["gate"]
    return {name for parameter in command.params for name in parameter.opts}
