"""The `llmopt` command."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import pytest
import typer

from pytest_llmopt._version import __version__
from pytest_llmopt.core.errors import LlmoptError, UnknownNameError
from pytest_llmopt.core.loading import suites_folder
from pytest_llmopt.gate_line import read
from pytest_llmopt.keeper import PartOf
from pytest_llmopt.options import ALL, REPORT
from pytest_llmopt.report import Report
from pytest_llmopt.runtime.environments import create as make_environment
from pytest_llmopt.runtime.environments import listed as listed_environments

TIMED = ("performance",)
"""Suites that are timed, and so must have the machine to themselves."""
ON_REQUEST = ("checkpoints", "methods", "quantization")
"""Suites that run only where they are named: they need what not every model has beside it, or they calibrate, or take
longer than all others together."""
CONTINUES = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
"""Ends of a pytest session after which the next one still says something."""

PLUGINS = ("llmopt", "benchmark", "xdist")
"""Plugins of pytest that the suites use, by their entry points."""

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Verdicts on optimized language models.")


environments = typer.Typer(no_args_is_help=True, help="Environments for engines whose libraries do not go with yours.")
app.add_typer(environments, name="env")


@app.callback()
def llmopt() -> None:
    """Verdicts on optimized language models."""


@environments.command()
def create(name: Annotated[str, typer.Argument(help="Of the environment; `llmopt env list` names them.")]) -> None:
    """Make an environment, unless it is there. `--llmopt-python ENGINE=NAME` then runs an engine in it."""
    try:
        make_environment(name, typer.echo)
    except LlmoptError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@environments.command("list")
def list_environments() -> None:
    """What there is, where it is, and how to get what is not there."""
    for line in listed_environments():
        typer.echo(line)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"pytest-llmopt {__version__}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def gate(
    context: typer.Context,
    suite: Annotated[list[str] | None, typer.Option(help="A suite to run; several times for several.")] = None,
    report: Annotated[Path, typer.Option(help="Where the JSON report goes.")] = Path(REPORT),
    require: Annotated[str, typer.Option(help="Requirements whose absence fails: `gpu,bitsandbytes`, or `all`.")] = "",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes side by side, each with models of its own; timing runs alone.")
    ] = 1,
) -> None:
    """Run the shipped suites and print the verdict table: `llmopt gate [OPTIONS] [MODEL]... [PYTEST OPTIONS]`.

    MODEL is a folder, a hub id or a name of the zoo; where none is named, the whole zoo is tested. Options of pytest
    and models may stand in any order: `llmopt gate -k static_cache org/model --llmopt-dtype bfloat16`.
    """
    folder = suites_folder()
    known = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))
    try:
        _check_suites(suite or [], known)
        settings = [*_settings(folder, context.args), f"--llmopt-report={report}"]
        settings += [f"--llmopt-require={require}"] if require else []
        line = read(context.args, settings)
    except pytest.UsageError as error:
        typer.echo("\n".join(f"ERROR: {message}" for message in error.args), err=True)
        raise typer.Exit(int(pytest.ExitCode.USAGE_ERROR)) from None
    models = line.models or (() if line.names_models else (ALL,))
    arguments = [*settings, *(f"--llmopt-model={name}" for name in models), *line.options]
    chosen = suite or [name for name in known if name not in ON_REQUEST]
    sys.exit(_run(_parts(folder, chosen, workers), arguments))


def _check_suites(suites: list[str], known: list[str]) -> None:
    for name in suites:
        if name not in known:
            raise pytest.UsageError(str(UnknownNameError("--suite", name, known)))


def _settings(folder: Path, words: list[str]) -> list[str]:
    """How the suites are run: by settings of their own, not by those of the project that the user stands in."""
    arguments = ["-c", str(folder / "pytest.ini"), f"--rootdir={folder}", "-p", "no:cacheprovider", "-q"]
    if {"no:benchmark", "-pno:benchmark"} & set(words):
        # The options of pytest-benchmark go with it.
        arguments += ["-o", "addopts=--strict-markers --strict-config"]
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        # What the suites cannot do without, and what shares them among workers.
        plugins = [name for name in PLUGINS if entry_points(group="pytest11", name=name)]
        arguments += [word for name in plugins for word in ("-p", name)]
    return arguments


def _parts(folder: Path, suites: list[str], workers: int) -> list[list[str]]:
    """The pytest sessions to run: what is timed runs alone, after everything that can share the machine."""
    alone = [str(folder / name) for name in suites if workers == 1 or name in TIMED]
    shared = [str(folder / name) for name in suites if str(folder / name) not in alone]
    parallel = ["-n", str(workers), "--dist", "loadgroup"]
    return [part for part in ([*shared, *parallel] if shared else [], alone) if part]


def _run(parts: list[list[str]], arguments: list[str]) -> int:
    """One pytest session after another, with one report and one table at the end; the gravest of their exit codes."""
    report = Report(("llmopt", *sys.argv[1:]))
    codes = []
    for place, part in enumerate(parts):
        report.goes_on = place + 1 < len(parts)
        codes.append(int(pytest.main([*part, *arguments], plugins=[PartOf(report)])))
        if codes[-1] not in CONTINUES:
            break
    # A part that selects nothing, as with -k, is no failure of the others.
    told = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED] or codes
    return max(told)


def main() -> None:
    """Run the command line."""
    app()
