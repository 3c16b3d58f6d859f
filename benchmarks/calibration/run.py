"""Whether every test keeps its false-alarm rate, and what it sees.

    python benchmarks/calibration/run.py [--seed 0] [--scale 1.0] [--only NAME]... [--fresh] [--processes 2]

Writes `results.json` and `RESULTS.md` beside this file. Each finished piece of a test is kept under
`.llmopt/calibration/`, so that an interrupted run goes on where it stopped, and one at a larger scale adds to it; a
test whose code changed since is run again. The same seed gives the same counts, whatever the number of processes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

# One thread for each process, before anything imports numpy or torch; spawned processes inherit it.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
STATE = ROOT / ".llmopt" / "calibration"
os.environ["LLMOPT_CALIBRATION_STATE"] = str(STATE)

import report  # noqa: E402 - after the environment is set
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402
from study import NULL, Study  # noqa: E402

from pytest_llmopt.core.files import write_json  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

SOURCES = {"synthetic": ("statistics",), "zoo": ("statistics", "checks", "core", "engines/_transformers")}


def studies() -> dict[str, Study]:
    """Every study by its name."""
    import drift_studies
    import interval_studies
    import sampling_studies
    import zoo_studies

    modules = (drift_studies, sampling_studies, interval_studies, zoo_studies)
    return {study.name: study for module in modules for study in module.STUDIES}


def work(name: str, effect: str, seed: int, first: int, last: int) -> tuple[list[int], float]:
    """A chunk of a study's trials, in a process of its own: alarms of each rate, and the seconds they took."""
    started = time.perf_counter()
    counts = studies()[name].run(effect, seed, range(first, last))
    return counts, time.perf_counter() - started


@dataclasses.dataclass(frozen=True, order=True)
class Chunk:
    """Trials of one study with one effect that are run in one go."""

    effect: str
    first: int
    last: int

    @property
    def key(self) -> str:
        """As it is stored."""
        return json.dumps([self.effect, self.first, self.last])


def plan(study: Study, scale: float) -> list[Chunk]:
    """The chunks of a study, those without an effect first."""
    runs = {NULL: max(6, round(study.null_runs * scale))}
    runs |= dict.fromkeys(study.effects, max(3, round(study.power_runs * scale)))
    size = study.chunk
    return [
        Chunk(effect, first, min(first + size, count))
        for effect, count in runs.items()
        for first in range(0, count, size)
    ]


@dataclasses.dataclass(frozen=True)
class Store:
    """Finished chunks of one seed on disk. A trial depends on its number alone, so that any plan can use them."""

    folder: Path
    whatever_code: bool = False

    def _file(self, study: Study) -> Path:
        key = hashlib.sha256(study.name.encode()).hexdigest()[:12]
        return self.folder / f"{key}.json"

    def read(self, study: Study) -> dict[Chunk, tuple[list[int], float]]:
        """What was found before, by the same code unless any will do."""
        file = self._file(study)
        if not file.is_file():
            return {}
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["code"] != _digest(study) and not self.whatever_code:
            return {}
        return {Chunk(*json.loads(key)): (found[0], found[1]) for key, found in content["chunks"].items()}

    def write(self, study: Study, found: Mapping[Chunk, tuple[list[int], float]]) -> None:
        """Keep the chunks of a study."""
        content = {"name": study.name, "code": _digest(study), "chunks": {chunk.key: found[chunk] for chunk in found}}
        write_json(self._file(study), content, allow_nan=True, indent=None)


def summarize(study: Study, found: Mapping[Chunk, tuple[list[int], float]]) -> report.Finished | None:
    """The chunks of a study together; None while there is none without an effect."""
    runs: dict[str, int] = {}
    alarms: dict[str, list[int]] = {}
    for chunk, (counts, _) in sorted(found.items()):
        runs[chunk.effect] = runs.get(chunk.effect, 0) + chunk.last - chunk.first
        before = alarms.get(chunk.effect, [0] * len(study.rates))
        alarms[chunk.effect] = [a + b for a, b in zip(before, counts, strict=True)]
    ordered = {effect: runs[effect] for effect in (NULL, *study.effects) if effect in runs}
    return report.Finished(ordered, alarms, sum(seconds for _, seconds in found.values())) if NULL in runs else None


def _digest(study: Study) -> str:
    """Of the code that a study's figures depend on."""
    digest = hashlib.sha256()
    for folder in SOURCES["zoo" if study.name.startswith("zoo") else "synthetic"]:
        for file in sorted((ROOT / "pytest_llmopt" / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def calibrate(chosen: Sequence[Study], everything: Sequence[Study], arguments: argparse.Namespace) -> None:
    """Run what is not done yet, and write both reports after each finished study."""
    store = Store(STATE / f"seed-{arguments.seed}", whatever_code=arguments.report)
    fresh = chosen if arguments.fresh else []
    found = {study.name: {} if study in fresh else store.read(study) for study in everything}

    def save() -> None:
        finished = [(study, summarize(study, found[study.name])) for study in everything]
        report.write(HERE, arguments.seed, [(study, one) for study, one in finished if one is not None])

    pending = [
        (study, chunk)
        for study in ([] if arguments.report else chosen)
        for chunk in plan(study, arguments.scale)
        if not _covered(chunk, found[study.name])
    ]
    save()
    print(f"{sum(map(len, found.values()))} chunks are done already, {len(pending)} to run")
    if pending:
        _run(pending, found, store, save, arguments)


def _covered(chunk: Chunk, found: Iterable[Chunk]) -> bool:
    return any(
        other.effect == chunk.effect and other.first <= chunk.first and chunk.last <= other.last for other in found
    )


def _run(
    pending: Sequence[tuple[Study, Chunk]],
    found: dict[str, dict[Chunk, tuple[list[int], float]]],
    store: Store,
    save: Callable[[], None],
    arguments: argparse.Namespace,
) -> None:
    """Every pending chunk, on as many processes as allowed; each is stored when it is done."""
    left = Counter(study.name for study, _ in pending)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    executor = ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn"))
    with executor, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("calibration", total=len(pending))
        futures = {
            executor.submit(work, study.name, chunk.effect, arguments.seed, chunk.first, chunk.last): (study, chunk)
            for study, chunk in pending
        }
        try:
            for future in as_completed(futures):
                study, chunk = futures[future]
                found[study.name][chunk] = future.result()
                store.write(study, found[study.name])
                left[study.name] -= 1
                progress.advance(bar)
                if not left[study.name]:
                    save()
                    one = summarize(study, found[study.name])
                    alarms = "" if one is None else f"{one.alarms[NULL]} of {one.runs[NULL]}, {one.seconds:.0f} s"
                    progress.console.print(f"{study.name}: {alarms}", highlight=False)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def main() -> None:
    """Read the command line and calibrate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the planned runs, for a quick look")
    parser.add_argument("--only", action="append", default=[], help="studies whose name contains this")
    parser.add_argument("--skip", action="append", default=[], help="studies whose name contains this are left out")
    parser.add_argument("--fresh", action="store_true", help="run again what is done already")
    parser.add_argument(
        "--report", action="store_true", help="only write what is stored, whatever code it was run with"
    )
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    every = studies()
    chosen = [
        study
        for study in every.values()
        if (not arguments.only or any(part in study.name for part in arguments.only))
        and not any(part in study.name for part in arguments.skip)
    ]
    if not chosen:
        sys.exit(f"no study matches {arguments.only}; there are:\n  " + "\n  ".join(every))
    calibrate(chosen, list(every.values()), arguments)


if __name__ == "__main__":
    main()
