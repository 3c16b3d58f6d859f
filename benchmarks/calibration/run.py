"""Whether every test keeps its false-alarm rate, and what it sees.

    python benchmarks/calibration/run.py [--seed 0] [--scale 1.0] [--only NAME]... [--fresh] [--processes 2]

Writes `results.json` and `RESULTS.md` beside this file. Each finished test is kept under `.llmopt/calibration/`, so
that an interrupted run goes on where it stopped; a test whose code changed since is run again. The same seed gives the
same counts, whatever the number of processes.
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
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
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

if TYPE_CHECKING:
    from collections.abc import Iterable

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


@dataclasses.dataclass
class Tally:
    """A study while its chunks come in."""

    study: Study
    runs: dict[str, int]
    alarms: dict[str, list[int]]
    open_chunks: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, study: Study, scale: float) -> Tally:
        """Plan the runs of a study."""
        runs = {NULL: max(study.chunk if scale == 1 else 12, round(study.null_runs * scale))}
        runs |= dict.fromkeys(study.effects, max(6, round(study.power_runs * scale)))
        return cls(study, runs, {effect: [0] * len(study.rates) for effect in runs})

    def chunks(self) -> list[tuple[str, int, int]]:
        """Effect, first and last trial of each chunk."""
        size = self.study.chunk
        return [
            (effect, first, min(first + size, runs))
            for effect, runs in self.runs.items()
            for first in range(0, runs, size)
        ]

    def finished(self) -> report.Finished:
        """What it came to."""
        return report.Finished(self.runs, self.alarms, self.seconds)


@dataclasses.dataclass(frozen=True)
class Store:
    """Finished studies of one seed and scale on disk."""

    folder: Path

    def _file(self, study: Study) -> Path:
        key = hashlib.sha256(study.name.encode()).hexdigest()[:12]
        return self.folder / f"{key}.json"

    def read(self, study: Study, scale: float, *, whatever_code: bool = False) -> report.Finished | None:
        """What was found before with the same plan, by the same code unless any will do."""
        file = self._file(study)
        if not file.is_file():
            return None
        content = json.loads(file.read_text(encoding="utf-8"))
        same_code = content.pop("code") == _digest(study) or whatever_code
        same = same_code and content["runs"] == Tally.of(study, scale).runs
        return report.Finished(**content) if same else None

    def write(self, study: Study, finished: report.Finished) -> None:
        """Keep a finished study."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"code": _digest(study), **dataclasses.asdict(finished)}
        self._file(study).write_text(json.dumps(content), encoding="utf-8")


def _digest(study: Study) -> str:
    """Of the code that a study's figures depend on."""
    digest = hashlib.sha256()
    for folder in SOURCES["zoo" if study.name.startswith("zoo") else "synthetic"]:
        for file in sorted((ROOT / "pytest_llmopt" / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def calibrate(chosen: Iterable[Study], everything: Iterable[Study], arguments: argparse.Namespace) -> None:
    """Run what is not done yet, and write both reports after each finished study."""
    store = Store(STATE / f"seed-{arguments.seed}-scale-{arguments.scale:g}")
    order = list(everything)
    done: dict[str, report.Finished] = {}
    for study in order:
        fresh = arguments.fresh and study in chosen
        kept = None if fresh else store.read(study, arguments.scale, whatever_code=arguments.report)
        if kept is not None:
            done[study.name] = kept

    def save() -> None:
        report.write(
            HERE, arguments.seed, arguments.scale, [(study, done[study.name]) for study in order if study.name in done]
        )

    wanted = [] if arguments.report else chosen
    pending = [Tally.of(study, arguments.scale) for study in wanted if study.name not in done]
    print(f"{len(done)} of {len(order)} studies are done already, {len(pending)} to run")
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    console = Console(stderr=True)
    executor = ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn"))
    with executor, Progress(*columns, console=console) as progress:
        futures: dict[Future[tuple[list[int], float]], tuple[Tally, str]] = {}
        for tally in pending:
            for effect, first, last in tally.chunks():
                future = executor.submit(work, tally.study.name, effect, arguments.seed, first, last)
                futures[future] = (tally, effect)
                tally.open_chunks += 1
        bar = progress.add_task("calibration", total=len(futures))
        try:
            for future in as_completed(futures):
                tally, effect = futures[future]
                counts, seconds = future.result()
                tally.alarms[effect] = [a + b for a, b in zip(tally.alarms[effect], counts, strict=True)]
                tally.seconds += seconds
                tally.open_chunks -= 1
                progress.advance(bar)
                if not tally.open_chunks:
                    done[tally.study.name] = tally.finished()
                    store.write(tally.study, done[tally.study.name])
                    save()
                    alarms = f"{tally.alarms[NULL]} of {tally.runs[NULL]}"
                    progress.console.print(f"{tally.study.name}: {alarms}, {tally.seconds:.0f} s", highlight=False)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    save()


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
    calibrate(chosen, every.values(), arguments)


if __name__ == "__main__":
    main()
