"""`make mutation`: every mutant and every benign difference before every judge; the kill matrix and the score.

What was judged by code that still decides the same is not judged again: the verdicts lie in
`.llmopt/mutation/verdicts`, one file for each judge and digest (`_digests.py`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from _digests import OURS
from first_sight import recorded
from judging import JUDGES, PoisonedProcessError, Task, judge, quiet, result_of
from mutation import CATEGORIES, HERE, catalogue
from report import Run, markdown, summary

from pytest_llmopt.core.files import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mutation import Entry
    from rich.progress import Progress

BENIGN_SEEDS = 10


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    folders = tuple(arguments.mutants)
    entries = [entry for entry in catalogue(folders) if _is_wanted(entry, set(arguments.only))]
    seeds = range(arguments.seed, arguments.seed + arguments.benign_seeds)
    benign = [Task(entry.full_name, seed, folders) for entry in entries if entry.benign for seed in seeds]
    mutants = [Task(entry.full_name, arguments.seed, folders) for entry in entries if not entry.benign]
    return [*mutants, *sampled(benign, arguments.sample, arguments.seed)]


def _is_wanted(entry: Entry, only: set[str]) -> bool:
    names = {entry.id, entry.kind.category, "benign" if entry.benign else "mutants"}
    return not only or bool(only & (names | ({"controls"} if entry.is_control else set())))


def sampled(tasks: Sequence[Task], count: int | None, seed: int) -> list[Task]:
    """So many of the runs, by chance under a seed: each difference once before any of them twice; all where None."""
    if count is None or count >= len(tasks):
        return sorted(tasks, key=lambda task: task.seed)
    chance = np.random.default_rng(seed)
    by_name: dict[str, list[Task]] = {}
    for place in chance.permutation(len(tasks)):
        by_name.setdefault(tasks[place].full_name, []).append(tasks[place])
    rounds = [task for place in range(len(tasks)) for own in by_name.values() for task in own[place : place + 1]]
    return sorted(rounds[:count], key=lambda task: (task.seed, task.full_name))


def judge_all(tasks: Sequence[Task], judges: Sequence[str], workers: int) -> None:
    """Judge what has no verdict yet; each error is printed, and what it concerns stays without one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    left = [task for task in tasks if any(not task.file(name).is_file() for name in judges)]
    alone = [task for task in left if task.entry.kind.patches_reference]
    together = [task for task in left if task not in alone]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("judging", total=len(tasks), completed=len(tasks) - len(left))
        poisoned = _in_pool(together, judges, progress, bar, workers)
        # A candidate that changes a class ends with its process; so do those that came after one that was not said to.
        _in_pool([*poisoned, *alone], judges, progress, bar, workers, tasks_each=1)


def _in_pool(
    tasks: Sequence[Task],
    judges: Sequence[str],
    progress: Progress,
    bar: Any,
    workers: int,
    tasks_each: int | None = None,
) -> list[Task]:
    """Judge them; gives those that a process refused to judge, since an earlier candidate had changed it."""
    refused: list[Task] = []
    if not tasks:
        return refused
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), quiet, max_tasks_per_child=tasks_each)
    try:
        futures = {pool.submit(judge, task, tuple(judges)): task for task in tasks}
        for future in as_completed(futures):
            error = future.exception()
            if isinstance(error, PoisonedProcessError) and tasks_each is None:
                refused.append(futures[future])
                continue
            progress.advance(bar)
            if error is not None:
                progress.console.print(f"{futures[future].full_name}: {type(error).__name__}: {error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return refused


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Run what is asked for, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=Path, action="append", default=[], help="a further folder of mutants")
    parser.add_argument("--benign-seeds", type=int, default=BENIGN_SEEDS, help="seeds of every benign difference")
    parser.add_argument("--sample", type=int, help="so many of the benign runs, chosen under the seed; all by default")
    parser.add_argument("--judges", nargs="+", choices=JUDGES, default=list(JUDGES), help="who judges; all by default")
    parser.add_argument("--workers", type=int, default=2)
    shown = f"ids, `mutants`, `benign`, `controls`, or categories: {', '.join(CATEGORIES)}"
    parser.add_argument("--only", nargs="+", default=[], help=shown)
    parser.add_argument("ids", nargs="*", help="the same as --only")
    arguments = parser.parse_args()
    arguments.only += arguments.ids
    tasks = _tasks(arguments)
    if not tasks:
        parser.error(f"nothing is called {' '.join(arguments.only)}")
    judge_all(tasks, arguments.judges, arguments.workers)
    results = [result for task in tasks if set(arguments.judges) <= set((result := result_of(task))["judges"])]
    if not results:
        parser.error("nothing was judged; what stopped it is printed above")
    results.sort(key=lambda item: (item["benign"], CATEGORIES.index(item["category"]), item["id"], item["seed"]))
    possible = arguments.benign_seeds * len({task.full_name for task in tasks if task.entry.benign})
    run = Run(arguments.seed, tuple(arguments.judges), possible, arguments.sample, _commit(), len(tasks) - len(results))
    text = markdown(results, run, recorded())
    print(text)
    if not arguments.only and OURS in arguments.judges:
        (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
        write_json(HERE / "results.json", summary(results, run, recorded()))
        print(f"written to {HERE / 'RESULTS.md'} (median of our gate: {_median(results):.1f} s)")


def _median(results: Sequence[dict[str, Any]]) -> float:
    return statistics.median(item["judges"][OURS]["seconds"] for item in results)


if __name__ == "__main__":
    main()
