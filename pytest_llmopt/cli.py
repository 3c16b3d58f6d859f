"""The `llmopt` command."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from pytest_llmopt._version import __version__
from pytest_llmopt.core.loading import suites_folder
from pytest_llmopt.keeper import PartOf
from pytest_llmopt.options import REPORT
from pytest_llmopt.report import Report

TIMED = ("performance",)
"""Suites that are timed, and so must have the machine to themselves."""
ON_REQUEST = ("checkpoints", "methods", "quantization")
"""Suites that run only where they are named: they need what not every model has beside it, or they calibrate, or take
longer than all others together."""
CONTINUES = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
"""Ends of a pytest session after which the next one still says something."""

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Verdicts on optimized language models.")


@app.callback()
def llmopt() -> None:
    """Verdicts on optimized language models."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"pytest-llmopt {__version__}")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
)
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

    MODEL is a folder, a hub id or a name of the zoo; without one, the whole zoo is tested. Everything from the first
    further option on goes to pytest: `llmopt gate org/model -k static_cache --llmopt-dtype bfloat16`.
    """
    folder = suites_folder()
    known = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))
    for name in suite or []:
        if name not in known:
            message = f"unknown suite {name!r}; known: {', '.join(known)}"
            raise typer.BadParameter(message)
    models = list(itertools.takewhile(lambda argument: not argument.startswith("-"), context.args))
    # The suites are run by their own settings, not by those of the project that the user happens to stand in.
    arguments = ["-c", str(folder / "pytest.ini"), f"--rootdir={folder}", "-p", "no:cacheprovider", "-q"]
    arguments += [f"--llmopt-model={name}" for name in models or ["zoo"]]
    arguments += [f"--llmopt-report={report}"]
    arguments += [f"--llmopt-require={require}"] if require else []
    arguments += context.args[len(models) :]
    chosen = suite or [name for name in known if name not in ON_REQUEST]
    sys.exit(_run(_parts(folder, chosen, workers), arguments))


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
