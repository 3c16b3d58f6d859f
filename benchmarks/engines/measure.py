"""What another process costs and contains: overhead, faults, and the mutation benchmark inline and isolated.

    python benchmarks/engines/measure.py [--rounds 7] [--only overhead]

Prints the figures and saves them to `results.json` beside this file; a part that is not measured keeps its figures.
Ratios are taken in one run, in alternation, since the machines are shared.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results.json"
sys.path[:0] = [str(ROOT / "tests" / "integration"), str(ROOT / "benchmarks" / "mutation")]

import numpy as np  # noqa: E402

from pytest_llmopt.core.files import write_json  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmopt.core.side import Side

INLINE = (
    *("raises", "hangs", "sys_exit", "raises_what_has_no_words", "answers_too_little", "answers_nonsense"),
    *("patches", "settings"),
)
"""Faults that a process survives: the others end it, and with it the run."""
REAL = {"patches": {"isolated": "FAIL"}, "settings": {"isolated": "PASS"}}
"""Faults of a real library, which it patches for good or whose global settings it changes; and the word on them that is
right where it is not ERROR: in a process of its own the one is a plain difference, and the other harms nobody."""
OF = "LLMOPT_WORKERS_OF"
OPENS_S = 0.01
ALL = 3
"""Processes of a run whose worker hangs: pytest, the worker and its guardian."""
GATE = "gate"
TESTS = """
import time
from pytest_llmopt import llmopt
pytestmark = llmopt.engine({engine!r})

{isolated}
@llmopt.optimization({planted!r}, what={what!r})
def test_fault(candidate, reference, prompts):
    time.sleep({wait_s})
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=24)

{isolated}
@llmopt.optimization({planted!r})
def test_after(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=24)
"""


def overhead(rounds: int) -> dict[str, Any]:
    """Wall seconds of checks of the zoo, both sides in this process and both in workers, in alternation."""
    from pytest_llmopt.checks.accurate import accurate
    from pytest_llmopt.checks.equivalent import equivalent
    from pytest_llmopt.checks.invariant import invariant
    from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.core.variant import Applied, Variant
    from pytest_llmopt.runtime.loader import Loader
    from pytest_llmopt.runtime.places import Places

    prompts = PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")
    optimizations = Registry("optimizations", "optimization")
    static = Applied("decoding.static_cache", optimizations.load("decoding.static_cache")())
    nf4 = Applied("quantization.bitsandbytes", optimizations.load("quantization.bitsandbytes")())
    cases: dict[str, tuple[Any, Any]] = {
        "equivalent": (equivalent, static),
        "accurate": (accurate, nf4),
        "invariant": (lambda candidate, _, prompts: invariant(candidate, prompts), static),
    }
    found, opening = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        loaders = {
            where: Loader(Registry("engines", "engine"), LoadPolicy(threads=1), places=Places(isolate=isolate))
            for where, isolate in (("inline", False), ("worker", True))
        }
        for name, (check, applied) in cases.items():
            for model in ("tiny-llama", "tiny-qwen", "tiny-gemma"):
                plain = Variant(model, dtype="float32", device="cpu")
                sides: dict[str, tuple[Side, Side]] = {}
                for where, loader in loaders.items():
                    context = loader.context(Path(folder) / where)
                    started = time.perf_counter()
                    candidate = loader.side(replace(plain, optimizations=(applied,)), "candidate", context)
                    opening.setdefault(where, []).append(time.perf_counter() - started)
                    sides[where] = candidate, loader.side(plain, "reference", context)
                seconds: dict[str, list[float]] = {where: [] for where in sides}
                statuses = set()
                for round_ in range(rounds + 1):  # the first measures the noise floor, and warms up
                    for where, (candidate, reference) in sides.items():
                        started = time.perf_counter()
                        verdict = check(candidate, reference, prompts)
                        statuses.add(str(verdict.status))
                        if round_:
                            seconds[where].append(time.perf_counter() - started)
                ratios = [worker / inline for inline, worker in zip(seconds["inline"], seconds["worker"], strict=True)]
                ratio = statistics.median(ratios)
                found[f"{name} {model}"] = {"ratio": ratio, "ratios": ratios, "statuses": sorted(statuses), **seconds}
                print(
                    f"{name} {model}: {ratio:.3f} times inline ({', '.join(f'{own:.3f}' for own in ratios)})",
                    flush=True,
                )
        for loader in loaders.values():
            loader.close()
    # What opens first imports the library in this process; and what is open already takes no time.
    opened = {
        where: statistics.median(took for took in seconds[1:] if took > OPENS_S) for where, seconds in opening.items()
    }
    print(f"seconds to open a candidate: {opened}")
    return {"cases": found, **of_all(found), "limit": 1.05, "opening_s": opened}


def of_all(cases: dict[str, Any]) -> dict[str, Any]:
    """Seconds of all checks in workers by those of the same checks here, with a bootstrap interval over the pairs."""
    pairs = np.array([pair for case in cases.values() for pair in zip(case["inline"], case["worker"], strict=True)])
    drawn = pairs[np.random.default_rng(0).integers(0, len(pairs), (10_000, len(pairs)))].sum(axis=1)
    inline, worker = pairs.sum(axis=0)
    low, high = np.quantile(drawn[:, 1] / drawn[:, 0], (0.025, 0.975))
    return {"ratio": float(worker / inline), "low": float(low), "high": float(high), "pairs": len(pairs)}


def faults(_rounds: int) -> dict[str, Any]:
    """Every fault, isolated, and inline where the run survives it: whose it is said to be, and what is left."""
    from bigram import FAULTS, LATER

    rows = {}
    for what in (*FAULTS, LATER, *REAL):
        for where in ("isolated", *(("inline",) if what in INLINE else ())):
            rows[f"{what}, {where}"] = row = _fault(what, where)
            print(f"{what}, {where}: {row}", flush=True)
    own = sum(row["own"] for row in rows.values())
    lost, left = sum(row["lost"] for row in rows.values()), sum(row["left"] for row in rows.values())
    ends = {str(how.name): _left_after(how) for how in (signal.SIGINT, signal.SIGKILL)}
    print(f"{own} of {len(rows)} told as that test's own, {lost} verdicts lost, {left} processes left; after {ends}")
    return {"rows": rows, "own": own, "of": len(rows), "lost": lost, "left": left, "left_after": ends}


def _fault(what: str, where: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = _project(Path(name), what, where)
        # What hangs in this process is ended by the limit of the test, and that is the longer the more it may take.
        limit = () if what in REAL else ("--llmopt-timeout", "15")
        done = subprocess.run(_pytest(*limit), cwd=folder, env=_variables(name), capture_output=True, check=False)
        report = json.loads((folder / ".llmopt/report.json").read_text())
        records = {item["nodeid"].partition("::test_")[2].partition("[")[0]: item for item in report["records"]}
        found = records.get("fault", {}).get("status", "no record")
        lost = records.get("after", {}).get("status") != "PASS"
        return {
            "status": found,
            "own": found == REAL.get(what, {}).get(where, "ERROR"),
            "lost": int(lost),
            "left": _left(name),
            "exit": done.returncode,
            "reason": str(records.get("fault", {}).get("reason", "")).partition("\n")[0],
        }


def _left_after(how: signal.Signals) -> int:
    """Processes that are left when a run ends so in the middle of a request."""
    with tempfile.TemporaryDirectory() as name:
        folder = _project(Path(name), "hangs", "isolated")
        process = subprocess.Popen(
            _pytest(), cwd=folder, env=_variables(name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while _left(name, patience=0) < ALL and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
        if _left(name, patience=0) < ALL:
            msg = "no worker came to hang"
            raise RuntimeError(msg)
        process.send_signal(how)
        process.wait(60)
        return _left(name)


def _project(folder: Path, what: str, where: str) -> Path:
    from bigram import LATER
    from test_worker import HARM

    bigram = (ROOT / "tests/integration/bigram.py").read_text()
    (folder / "conftest.py").write_text(HARM if what in REAL else bigram)
    engine, planted = ("transformers", "planted.harm") if what in REAL else ("bigram", "planted.fault")
    isolated = "@llmopt.isolated()" if where == "isolated" else ""
    wait_s = 1 if what == LATER else 0
    test = TESTS.format(what=what, isolated=isolated, engine=engine, planted=planted, wait_s=wait_s)
    (folder / "test_faults.py").write_text(test)
    return folder


def _pytest(*options: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--llmopt-model", "tiny-llama", *options]


def _variables(name: str) -> dict[str, str]:
    return {**os.environ, OF: name}


def _left(name: str, patience: float = 10.0) -> int:
    """Processes of a run that are still there after a while: workers, their guardians, and what either has started."""
    import psutil

    until = time.monotonic() + patience
    while True:
        found = 0
        for process in psutil.process_iter(["status"]):
            with contextlib.suppress(psutil.Error):
                alive = process.info["status"] != psutil.STATUS_ZOMBIE
                found += alive and process.environ().get(OF) == name
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


def mutation(_rounds: int) -> dict[str, Any]:
    """The gate's word on every mutant and benign difference, in this process and in one of its own.

    Verdicts are kept as those of `make mutation` are: what was judged by the same code is not judged again.
    """
    from judging import Task, result_of
    from mutation import catalogue
    from run import judge_all

    rows: dict[str, Any] = {}
    # In an order drawn by chance, so that a run that is stopped is a sample; the same command goes on.
    names = np.random.default_rng(0).permutation(sorted(entry.full_name for entry in catalogue()))
    pairs = {name: [Task(name, 0, isolated=isolated) for isolated in (False, True)] for name in map(str, names)}
    judge_all([task for pair in pairs.values() for task in pair], [GATE], workers=2)
    for name, pair in pairs.items():
        found = [result_of(task)["judges"].get(GATE) for task in pair]
        if None in found:
            print(f"{name}: not judged")
            continue
        said = [str(verdict["caught"] or verdict.get("error") or "PASS") for verdict in found]
        # The first check that does not pass, and how; the metrics after it are cut short.
        same = len({own.partition(",")[0] for own in said}) == 1
        rows[name] = {"inline": said[0], "isolated": said[1], "same": same}
        if not same:
            print(f"{name}: OTHER: {said}", flush=True)
    return {"rows": rows, "same": sum(row["same"] for row in rows.values()), "of": len(rows), "all": len(pairs)}


def structure(_rounds: int) -> dict[str, Any]:
    """Members of an engine, lines of the Transformers engine, import circles (types included), the groups of checks."""
    sys.path.insert(0, str(ROOT / "tests" / "unit"))
    import graphlib

    import test_layers as layers

    from pytest_llmopt.core.engine import Engine

    graph: dict[str, set[str]] = {module: set() for module in layers.MODULES}
    for item in layers.OURS:
        if item.source not in (item.target, layers.PACKAGE):
            graph[item.source].add(item.target)
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
        circles = 0
    except graphlib.CycleError:
        circles = 1
    arrows = [(layers.folder_of(item.source), layers.folder_of(item.target)) for item in layers.OURS]
    upward = sum(to not in {at, *layers.BELOW[at]} for at, to in arrows if at != layers.FACE)
    checks = ROOT / "pytest_llmopt/checks"
    file = (ROOT / "pytest_llmopt/engines/transformers.py").read_text()
    methods = sum(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(file)))
    found = {
        "engine_members": len([name for name in vars(Engine) if not name.startswith("_")]),
        "transformers_engine_lines": len(file.splitlines()),
        "transformers_engine_functions": methods,
        "import_circles": circles,
        "upward_arrows": upward,
        "checks_groups": sorted(path.name for path in checks.iterdir() if path.is_dir() and path.name != "__pycache__"),
    }
    print(found)
    return found


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "structure": structure,
    "overhead": overhead,
    "faults": faults,
    "mutation": mutation,
}


def markdown(results: dict[str, Any]) -> str:
    """The figures for people."""
    lines = ["# Engines: what another process costs and contains", "", "Made by `make engines`.", ""]
    if "structure" in results:
        own = results["structure"]
        size = f"the file of the Transformers engine {own['transformers_engine_lines']} lines"
        arrows = f"import circles, types included: {own['import_circles']}; upward arrows: {own['upward_arrows']}"
        lines += [f"An engine has {own['engine_members']} members, {size}; {arrows}.", ""]
    if "overhead" in results:
        lines += ["| check | worker / inline, median |", "|:--|--:|"]
        lines += [f"| {name} | {case['ratio']:.3f} |" for name, case in results["overhead"]["cases"].items()]
        own = results["overhead"]
        told = f"All seconds in workers by all seconds here: {own['ratio']:.3f}, 95 % interval {own['low']:.3f} to"
        lines += ["", f"{told} {own['high']:.3f} over {own['pairs']} pairs (wanted: at most 1.05).", ""]
        took = results["overhead"]["opening_s"]
        lines += [
            (
                f"To open a candidate takes {took['inline']:.1f} s in this process and {took['worker']:.1f} s in one "
                "of its own, which has to import the library first: once for each stack of optimizations."
            ),
            "",
        ]
    if "faults" in results:
        own = results["faults"]
        after = ", ".join(f"{count} after {how}" for how, count in own["left_after"].items())
        lines += [
            (
                f"{own['own']} of {own['of']} faults were told as that test's own, {own['lost']} verdicts were lost, "
                f"{own['left']} processes were left after the run, {after}."
            ),
            "",
            "| fault | its test | told as its own | verdicts lost | processes left |",
            "|:--|:--|:--|--:|--:|",
        ]
        lines += [
            f"| {name} | {row['status']} | {'yes' if row['own'] else 'NO'} | {row['lost']} | {row['left']} |"
            for name, row in own["rows"].items()
        ]
        lines.append("")
    if "mutation" in results:
        own = results["mutation"]
        judged = f"{own['of']} of {own['all']} candidates of the mutation benchmark were judged in both places"
        lines += [f"{judged}; {own['same']} got the same verdict (the same first check that fails, or none).", ""]
        others = {name: row for name, row in own["rows"].items() if not row["same"]}
        if others:
            lines += ["| another verdict | in this process | in one of its own |", "|:--|:--|:--|"]
            lines += [f"| {name} | {row['inline']} | {row['isolated']} |" for name, row in others.items()]
            lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=PARTS, action="append")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for name in arguments.only or PARTS:
        results[name] = PARTS[name](arguments.rounds)
        results["measured"] = datetime.now(UTC).date().isoformat()
        write_json(RESULTS, results)
        (HERE / "RESULTS.md").write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
