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
from pytest_llmopt.options import REPORT

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
    suite: Annotated[list[str] | None, typer.Option(help="A suite to run; all of them if none is given.")] = None,
    report: Annotated[Path, typer.Option(help="Where the JSON report goes.")] = Path(REPORT),
    require: Annotated[str, typer.Option(help="Requirements whose absence fails: `gpu,bitsandbytes`, or `all`.")] = "",
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
    arguments = [str(folder / name) for name in suite or known]
    # The suites are run by their own settings, not by those of the project that the user happens to stand in.
    arguments += ["-c", str(folder / "pytest.ini"), f"--rootdir={folder}", "-p", "no:cacheprovider", "-q"]
    arguments += [f"--llmopt-model={name}" for name in models or ["zoo"]]
    arguments += [f"--llmopt-report={report}"]
    arguments += [f"--llmopt-require={require}"] if require else []
    sys.exit(pytest.main([*arguments, *context.args[len(models) :]]))


def main() -> None:
    """Run the command line."""
    app()
