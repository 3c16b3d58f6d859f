"""`make mutation`: every mutant and every benign difference before every judge; the kill matrix and the score."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from cases import Case
from mutation import CATEGORIES, HERE, catalogue, load_offered
from report import markdown, summary

from pytest_llmopt.core.files import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

STATE = Path(".llmopt/mutation")
BENIGN_SEEDS = 10
JUDGES = {file.stem: file for file in sorted((HERE / "judges").glob("[!_]*.py"))}
OURS = "gate"
"""The judge that gets a candidate of its own, so that no other rule has warmed it up."""


@dataclass(frozen=True)
class Task:
    """One candidate under one seed."""

    full_name: str
    seed: int
    folders: tuple[Path, ...]

    @property
    def file(self) -> Path:
        """Where its result is kept; another code is another file."""
        return STATE / f"{self.full_name}-{self.seed}-{_code()}.json"


@cache
def _code() -> str:
    """A digest of all that decides a verdict: checks, engines, judges and helpers."""
    folders = (HERE.parent.parent / "pytest_llmopt", HERE)
    files = sorted(file for folder in folders for file in folder.rglob("*.py") if file.name != "report.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _quiet() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch
    from transformers.utils import logging as library

    library.set_verbosity_error()
    library.disable_progress_bar()
    torch.set_num_threads(1)


@cache
def _shared() -> tuple[Any, Any]:
    from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.runtime.loader import Loader

    loader = Loader(Registry("engines", "engine"), LoadPolicy(threads=1))
    return loader, PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")


def judge(task: Task, judges: Sequence[str] = tuple(JUDGES)) -> dict[str, Any]:
    """What every judge says of one candidate; a candidate of its own, loaded anew."""
    import numpy as np
    import torch

    from pytest_llmopt.core.context import Context
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.runtime.side import Side

    (entry,) = [item for item in catalogue(task.folders) if item.full_name == task.full_name]
    loader, prompts = _shared()
    if entry.benign:
        order = np.random.default_rng(task.seed).permutation(len(prompts)) if task.seed else range(len(prompts))
        prompts = PromptSet(tuple(prompts[int(place)] for place in order))
    seeded = entry.benign and "seed" in entry.kind.__dataclass_fields__
    variant = entry.variant(**({"seed": task.seed} if seeded else {}))
    plain = entry.reference()
    context = Context(open=loader.get, cache=STATE / "cache", reopen=loader.reopen)
    torch._dynamo.reset()  # noqa: SLF001 - the graphs of another candidate count against this one's limit
    result: dict[str, Any] = {"id": entry.id, "benign": entry.benign, "seed": task.seed}
    result |= {"category": entry.kind.category, "model": variant.model, "source": entry.kind.source, "judges": {}}
    reference = Side("reference", plain, loader.get(plain), context=context)
    for names in ([OURS], [name for name in judges if name != OURS]):
        if not names:
            continue
        engine = loader.reopen(variant)
        case = Case(Side("candidate", variant, engine, context=context), reference, prompts, task.seed)
        for name in names:
            case.borrowed = 0.0
            torch.manual_seed(task.seed)
            started = time.perf_counter()
            try:
                caught = load_offered(JUDGES[name])(case)
            except Exception as error:  # noqa: BLE001 - a candidate that crashes a rule is caught by that rule
                caught = f"raised {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
            result["judges"][name] = {"caught": caught, "seconds": time.perf_counter() - started + case.borrowed}
        engine.close()
    if tuple(judges) == tuple(JUDGES):
        write_json(task.file, result)
    return result


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    wanted = set(arguments.only)
    tasks = []
    for entry in catalogue(arguments.mutants):
        if wanted and not wanted & {entry.id, entry.kind.category, "benign" if entry.benign else "mutants"}:
            continue
        seeds = range(arguments.seed, arguments.seed + (arguments.benign_seeds if entry.benign else 1))
        tasks += [Task(entry.full_name, seed, tuple(arguments.mutants)) for seed in seeds]
    return sorted(tasks, key=lambda task: (task.full_name.startswith("benign"), task.seed))


def _run(tasks: Sequence[Task], workers: int) -> list[dict[str, Any]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    done = [json.loads(task.file.read_text(encoding="utf-8")) for task in tasks if task.file.is_file()]
    left = [task for task in tasks if not task.file.is_file()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pool = ProcessPoolExecutor(workers, initializer=_quiet)
    try:
        with Progress(*columns) as progress:
            bar = progress.add_task("judging", total=len(tasks), completed=len(done))
            futures = {pool.submit(judge, task): task for task in left}
            for future in as_completed(futures):
                progress.advance(bar)
                if error := future.exception():
                    progress.console.print(f"{futures[future].full_name}: {type(error).__name__}: {error}")
                else:
                    done.append(future.result())
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return done


def main() -> None:
    """Run what is asked for, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=Path, action="append", default=[], help="a further folder of mutants")
    parser.add_argument("--benign-seeds", type=int, default=BENIGN_SEEDS, help="runs of every benign difference")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("only", nargs="*", help=f"ids, `mutants`, `benign`, or categories: {', '.join(CATEGORIES)}")
    arguments = parser.parse_args()
    results = _run(_tasks(arguments), arguments.workers)
    if not results:
        parser.error(f"nothing is called {' '.join(arguments.only)}")
    results.sort(key=lambda item: (item["benign"], CATEGORIES.index(item["category"]), item["id"], item["seed"]))
    text = markdown(results, arguments.seed)
    print(text)
    if not arguments.only:
        (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
        write_json(HERE / "results.json", summary(results, arguments.seed))
        print(f"written to {HERE / 'RESULTS.md'} (median of our gate: {_median(results):.1f} s)")


def _median(results: Sequence[dict[str, Any]]) -> float:
    return statistics.median(item["judges"]["gate"]["seconds"] for item in results)


if __name__ == "__main__":
    main()
