"""One candidate before its judges, loaded anew, beside a reference that must be the same before and after."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _pytest_run
from _digests import OURS, digest_of, imported, verdict_digest
from cases import Case
from mutation import HERE, Entry, catalogue, load_offered

from pytest_llmopt.core.errors import LlmoptError
from pytest_llmopt.core.files import write_json
from pytest_llmopt.runtime.places import OWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.runtime.loader import Loader

STATE = Path(".llmopt/mutation")
JUDGES = {
    file.stem: file for file in sorted((HERE / "judges").glob("[!_]*.py"), key=lambda file: (file.stem != OURS, file))
}
SHORT = 160
"""Characters kept of an error's message."""
PROBES = 4
"""Texts that the reference scores before and after each candidate."""


class PoisonedProcessError(Exception):
    """An earlier candidate changed what every model of this process is made of; another process has to go on."""


@dataclass(frozen=True)
class Task:
    """One candidate under one seed."""

    full_name: str
    seed: int
    folders: tuple[Path, ...] = ()
    isolated: bool = False
    """Whether the candidate runs in a process of its own: our gate alone can judge it there."""

    @property
    def entry(self) -> Entry:
        """What is judged."""
        (entry,) = [item for item in catalogue(self.folders) if item.full_name == self.full_name]
        return entry

    def file(self, judge: str) -> Path:
        """Where a verdict is kept; what depends on other code is another file."""
        where = "-isolated" if self.isolated else ""
        return STATE / "verdicts" / f"{self.full_name}-{self.seed}-{judge}{where}-{_digest(self, judge)}.json"


@cache
def _digest(task: Task, judge: str) -> str:
    return verdict_digest(task.entry, judge)


def verdicts(task: Task) -> dict[str, dict[str, Any]]:
    """Those of the code as it is, by judge, as far as they were given."""
    files = {name: task.file(name) for name in JUDGES}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def result_of(task: Task) -> dict[str, Any]:
    """What is known of a candidate; `judges` may lack some."""
    entry = task.entry
    result = {"id": entry.id, "full_name": entry.full_name, "benign": entry.benign, "seed": task.seed}
    result |= {"category": entry.kind.category, "model": entry.kind.models[0], "source": entry.kind.source}
    return {**result, "needs": list(entry.kind.needs), "judges": verdicts(task)}


def quiet() -> None:
    """No warnings of libraries, and one thread: how every worker begins."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch
    from transformers.utils import logging as library

    library.set_verbosity_error()
    library.disable_progress_bar()
    torch.set_num_threads(1)


@cache
def shared() -> tuple[Loader, PromptSet]:
    """The loader and the prompts of this process."""
    from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.runtime.loader import Loader

    loader = Loader(Registry("engines", "engine"), LoadPolicy(threads=1))
    return loader, PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")


@cache
def _of_references() -> dict[str, tuple[Any, float]]:
    """What the references of this process have answered."""
    return {}


def judge(task: Task, judges: Sequence[str] = ()) -> dict[str, Any]:
    """What the judges that have not spoken yet say of one candidate.

    Raises:
        PoisonedProcessError: the reference is not what it was in other processes.
    """
    missing = [name for name in judges or JUDGES if not task.file(name).is_file()]
    ours = [name for name in missing if name == OURS]
    if task.entry.kind.patches_reference and ours:
        # Whether the reference was changed is seen by what a user runs: the session watches it, and no judge here can.
        _keep(task, OURS, _pytest_run.judged(task.entry, task.seed, isolated=task.isolated))
        ours = []
    # Our own gate gets a candidate of its own, so that no other rule has warmed it up.
    for names in (ours, [name for name in missing if name != OURS]):
        if names:
            _judge(task, names)
    return result_of(task)


def _keep(task: Task, name: str, verdict: dict[str, Any]) -> None:
    write_json(task.file(name), verdict)


def _judge(task: Task, names: Sequence[str]) -> None:
    import torch

    entry = task.entry
    loader, prompts = shared()
    plain, variant = entry.reference(), entry.variant(**_seeded(entry, task.seed))
    variant = replace(variant, process=OWN if task.isolated else "")
    context = loader.context(STATE / "cache")
    torch._dynamo.reset()  # noqa: SLF001 - the graphs of another candidate count against this one's limit
    try:
        reference = loader.side(plain, "reference", context)
        before = _checked_probe(plain, reference, prompts)
        candidate = loader.side(variant, context=context, anew=True)
    except LlmoptError as error:
        for name in names:
            _keep(task, name, _refused(name, error))
        return
    case = Case(candidate, reference, _ordered(prompts, entry, task.seed), task.seed, of_references=_of_references())
    found = {name: _verdict(case, name) for name in names}
    candidate.close()
    poisoned = _probe(reference, prompts) != before
    if poisoned and not entry.kind.patches_reference:
        error = "it changed the reference, whose scores are others than before: undo it, or set patches_reference"
        found = {
            name: {"caught": None, "seconds": verdict["seconds"], "error": error} for name, verdict in found.items()
        }
    for name, verdict in found.items():
        _keep(task, name, verdict)


def _seeded(entry: Entry, seed: int) -> dict[str, int]:
    return {"seed": seed} if entry.benign and "seed" in entry.kind.__dataclass_fields__ else {}


def _ordered(prompts: PromptSet, entry: Entry, seed: int) -> PromptSet:
    """Of benign differences, in another order under each seed."""
    import numpy as np

    if not entry.benign or not seed:
        return prompts
    order = np.random.default_rng(seed).permutation(len(prompts))
    return type(prompts)(tuple(prompts[int(place)] for place in order))


def _refused(name: str, error: LlmoptError) -> dict[str, Any]:
    """A model that our loader refuses is caught by us; the rules of others never saw it."""
    if name != OURS:
        return {"caught": None, "seconds": 0.0, "not_judged": "our loader refuses the model"}
    return {"caught": f"refused: {type(error).__name__}: {_first_line(error)}", "seconds": 0.0, "looked_at": {}}


def _verdict(case: Case, name: str) -> dict[str, Any]:
    import torch

    case.borrowed = 0.0
    case.looked_at.clear()
    torch.manual_seed(case.seed)
    started = time.perf_counter()
    try:
        caught = load_offered(JUDGES[name])(case)
    except Exception as error:  # noqa: BLE001 - a candidate that crashes a rule is caught by that rule
        caught = f"raised {type(error).__name__}: {_first_line(error)}"
    seconds = time.perf_counter() - started + case.borrowed
    return {"caught": caught, "seconds": seconds, "looked_at": {key: dict(own) for key, own in case.looked_at.items()}}


def _first_line(error: Exception) -> str:
    """Of its message, without where this checkout lies."""
    return str(error).replace(f"{Path.cwd()}{os.sep}", "").splitlines()[0][:SHORT] if str(error) else ""


def _probe(engine: Side, prompts: PromptSet) -> str:
    """A digest of every bit of what a model thinks of a few texts."""
    from pytest_llmopt.core.tokens import Continuation

    encoded = [prompt.encode(engine)[:48] for prompt in prompts.take(PROBES)]
    found = hashlib.sha256()
    for item in engine.score([Continuation(ids[:1], ids[1:]) for ids in encoded if len(ids) > 1]):
        found.update(item.top_logprobs.tobytes() + item.top_ids.tobytes() + item.token_logprobs.tobytes())
    return found.hexdigest()


def _checked_probe(variant: Variant, engine: Side, prompts: PromptSet) -> str:
    """The probe, after a comparison with what other processes of this code found."""
    code = digest_of(imported(HERE / "judging.py"))
    file = STATE / "probes" / f"{variant.digest}-{code}.json"
    found = _probe(engine, prompts)
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != found:
        msg = "the reference of this process is not that of others: an earlier candidate changed it"
        raise PoisonedProcessError(msg)
    write_json(file, found)
    return found
