"""`python benchmarks/mutation/first_sight.py [IDS]`: what the gate says of an entry before any check is changed for it.

Every verdict is recorded once, in `first_sight.json`, with the commit whose gate gave it, and is never replaced. All
are judged under seed 0. Those that the gate was developed on are null in the file: nobody knows what it said first.
`RESULTS.md` shows these verdicts beside those of today.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from _digests import OURS
from judging import Task, judge, quiet
from mutation import HERE, Entry, catalogue

from pytest_llmopt.core.files import write_json

FILE = HERE / "first_sight.json"
WORKERS = 2


def _content() -> dict[str, dict[str, Any] | None]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    return found


def recorded() -> dict[str, dict[str, Any]]:
    """By full name, the first verdict: the commit, what was said or null, and the seconds; those that have one."""
    return {name: verdict for name, verdict in _content().items() if verdict is not None}


def _judged(name: str) -> dict[str, Any]:
    own = judge(Task(name, 0), (OURS,))["judges"][OURS]
    return {"caught": own["caught"], "seconds": round(own["seconds"], 1)}


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def main() -> None:
    """Judge what has no verdict yet."""
    wanted, commit = set(sys.argv[1:]), _commit()
    entries = [item for item in catalogue() if not item.is_control and (not wanted or item.id in wanted)]
    missing = [item for item in entries if item.full_name not in _content()]
    context = multiprocessing.get_context("spawn")  # a candidate may change a class: then the process ends with it

    def pool(entries: list[Entry], tasks: int | None) -> None:
        with ProcessPoolExecutor(WORKERS, context, quiet, max_tasks_per_child=tasks) as workers:
            futures = {workers.submit(_judged, item.full_name): item for item in entries}
            for future in as_completed(futures):
                item = futures[future]
                verdict = {"commit": commit, **future.result()}
                write_json(FILE, dict(sorted({**_content(), item.full_name: verdict}.items())))
                print(f"{item.full_name}: {verdict['caught'] or 'passed'} ({verdict['seconds']} s)", flush=True)

    pool([item for item in missing if item.kind.patches_reference], 1)
    pool([item for item in missing if not item.kind.patches_reference], None)


if __name__ == "__main__":
    main()
