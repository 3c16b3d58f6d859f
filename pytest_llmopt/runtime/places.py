"""Where engines run: in this process, in one of their own, or under another interpreter."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.written import home_of
from pytest_llmopt.runtime.environments import interpreter_of, known
from pytest_llmopt.runtime.worker.connection import WorkerPlace
from pytest_llmopt.runtime.worker.engine import ProcessEngine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.core.variant import Variant

OWN = "own"
"""Of a variant: a process of its own under this interpreter."""
OLDEST = (3, 11)
ASK = """
import importlib.util, json, sys
missing = [name for name in ("numpy", "packaging") if importlib.util.find_spec(name) is None]
print(json.dumps({"version": list(sys.version_info[:3]), "missing": missing}))
"""
ANSWER_S = 60.0


@dataclass(frozen=True)
class Places:
    """By kind of engine, the interpreter that it runs under where that is another one."""

    interpreters: Mapping[str, str] = field(default_factory=dict)
    isolate: bool = False
    """Every engine in a process of its own."""
    limit_s: float | None = None
    """The most that any request may take."""

    @classmethod
    def of(cls, given: Iterable[str], *, isolate: bool, limit_s: float | None, engines: Iterable[str]) -> Places:
        """From what `--llmopt-python` gives: `vllm=/path/to/python`, or `vllm=NAME` of an environment of ours.

        Raises:
            OptionError: an engine or interpreter that does not exist, is none, or lacks what a worker needs.
        """
        interpreters = {}
        for item in given:
            engine, separator, named = item.partition("=")
            option = f"--llmopt-python {shown(item)}"
            if not separator or not named:
                _refuse(option, "says no interpreter; write ENGINE=/path/to/python, or ENGINE=NAME")
            if engine not in engines:
                _refuse(option, f"there is no engine {engine!r}; known: {', '.join(sorted(engines))}")
            interpreters[engine] = interpreter(named, option)
        return cls(interpreters, isolate, limit_s)

    def in_process(self, variant: Variant) -> bool:
        """Whether a variant runs in this very process."""
        return not (self.isolate or variant.process or variant.engine in self.interpreters)

    def open(self, engines: Registry, variant: Variant, policy: LoadPolicy, in_use: Iterable[Engine] = ()) -> Engine:
        """The engine of a variant, where it belongs.

        Args:
            engines: where the kinds of engines are registered.
            variant: what to run.
            policy: what loading may do.
            in_use: engines whose worker it joins where they run the same, if of another copy of the model: in this
                process they would be side by side too, and a worker takes seconds to start.

        Raises:
            LlmoptError: it cannot be loaded, or its process ended.
        """
        if self.in_process(variant):
            engine: Engine = engines.load(variant.engine).open(variant, policy)
            return engine
        home = home_of(engines.added[variant.engine]) if variant.engine in engines.added else None
        python = self.interpreters.get(variant.engine, sys.executable)
        place = WorkerPlace(python if variant.process in {"", OWN} else variant.process, self.limit_s)
        same = (
            own for own in in_use if isinstance(own, ProcessEngine) and own.alive and _is_copy(own.variant, variant)
        )
        return ProcessEngine.open(variant, policy, place, home, next(same, None))


def _is_copy(own: Variant, other: Variant) -> bool:
    return dataclasses.replace(own, model=other.model) == other


def _refuse(given: str, why: str) -> NoReturn:
    """Refuse a value of the option.

    Raises:
        OptionError: always.
    """
    msg = f"{given}: {why}"
    raise OptionError(msg)


def interpreter(named: str, given: str) -> str:
    """The path of an interpreter that a worker can run under.

    Raises:
        OptionError: it does not exist, is no Python, is too old, or lacks a package.
    """
    python = interpreter_of(named) if named in known() else named
    # Not by `Path`, to which `./python` is `python`, and that is another one.
    found = shutil.which(os.path.expanduser(python))  # noqa: PTH111
    if found is None and named in known():
        _refuse(given, f"the environment is not made yet: llmopt env create {named}")
    if found is None:
        ours = ", ".join(known())
        _refuse(
            given, f"there is no interpreter {python!r}; give the path of a python, or an environment of ours ({ours})"
        )
    found = str(Path(found).absolute())  # a test may go to another folder; a link is kept, since a venv is told by it
    try:
        asked = [found, "-c", ASK]
        # In a folder of its own: where pytest runs may be the checkout of a package that it lacks.
        told = subprocess.run(  # noqa: S603
            asked, cwd=Path(found).parent, capture_output=True, text=True, timeout=ANSWER_S, check=True
        )
        facts = json.loads(told.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        words = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        says = words[-1] if words else "nothing"
        _refuse(given, f"{found} is no Python that runs (it says: {says}); give the path of one")
    version = ".".join(map(str, facts["version"]))
    if tuple(facts["version"]) < OLDEST:
        _refuse(given, f"{found} is Python {version}, and 3.11 is the oldest that will do; give another")
    if facts["missing"]:
        need = " ".join(facts["missing"])
        _refuse(given, f"{found} lacks {need}: {found} -m pip install {need}")
    return found
