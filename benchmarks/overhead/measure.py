"""What the plugin itself costs: start-up, one check in a fresh process, collection, and the gate outside the engines.

    python benchmarks/overhead/measure.py [--rounds 20] [--model tiny-llama] [--only one_check]

Prints the figures and saves them to `results.json` beside this file; a part that is not measured keeps its figures.
Ratios and differences are taken in one run, in alternation, since the machines are shared; absolute times mean nothing
elsewhere.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"
PLAIN_TEST = "def test_nothing(): pass\n"
LIBRARIES = """
import torch, transformers
from pytest_llmopt.core.loading import locate
model = transformers.AutoModelForCausalLM.from_pretrained(locate("tiny-llama"), dtype=torch.float32)
tokenizer = transformers.AutoTokenizer.from_pretrained(locate("tiny-llama"))
model.generate(**tokenizer("import", return_tensors="pt"), max_new_tokens=8)
"""
"""What any test of a model pays: the import of the libraries, one load, a few tokens."""
CHECK = """
from pytest_llmopt import llmopt

@llmopt.MARK
def test_it(candidate, reference, prompts):
    llmopt.assert_CHECK(candidate, reference, prompts)
"""
CHECKS = {
    "equivalent": "static_cache()",
    "invariant": "static_cache()",
    "optimized": "static_cache()",
    "accurate": 'quantized("bitsandbytes")',
}
VARIANTS = 300
MANY = """
from pytest_llmopt import llmopt

CACHES = {f"cache{n}": llmopt.static_cache(max_cache_len=256 + n) for n in range(COUNT)}
WEIGHTS = {f"weights{n}": llmopt.quantized("hqq", bits=4, group_size=8 * (n + 1)) for n in range(COUNT)}

@llmopt.variants(CACHES | WEIGHTS)
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts)
"""
MANY_PLAIN = """
import pytest

@pytest.mark.parametrize("variant", range(COUNT))
@pytest.mark.parametrize("model", ["tiny-llama"])
def test_it(variant, model): pass
"""
HEAVY = (
    "import sys; heavy = {'torch', 'transformers', 'numpy', 'scipy', 'rich'} & set(sys.modules); print(sorted(heavy))"
)
GATE = """
import json, sys, time
import bitsandbytes, scipy.stats, torch, torchao.quantization, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, CompileConfig, StaticCache
from transformers import TorchAoConfig
from pytest_llmopt.core.loading import ZOO, locate
for model in ZOO:  # the modules of the architectures are imported with the first model of each
    AutoModelForCausalLM.from_pretrained(locate(model)); AutoTokenizer.from_pretrained(locate(model))
import pytest, torch._dynamo, torch._inductor
started = time.perf_counter()
try:
    from pytest_llmopt.cli import main
    sys.argv = ["llmopt", "gate", *sys.argv[1:]]
    main()
except SystemExit as exit:
    code = exit.code
print("WALL", time.perf_counter() - started, "EXIT", code)
"""


def start_up(rounds: int) -> dict[str, object]:
    """Milliseconds of a pytest run with one empty test, with the plugin and without it, in alternation."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_nothing.py").write_text(PLAIN_TEST, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        without = [*command, "-p", "no:llmopt"]
        seconds: dict[str, list[float]] = {"with": [], "without": []}
        for turn in range(rounds + 1):
            for name, arguments in (("with", command), ("without", without)):
                started = time.perf_counter()
                subprocess.run(arguments, cwd=folder, check=True, capture_output=True)
                if turn:  # the first turn warms the disk cache
                    seconds[name].append(1e3 * (time.perf_counter() - started))
        probe = Path(folder, "conftest.py")
        probe.write_text(f"def pytest_unconfigure():\n    {HEAVY}\n", encoding="utf-8")
        plugins = ["-p", "no:benchmark", "-p", "no:hypothesispytest"]
        output = subprocess.run([*command, *plugins], cwd=folder, check=True, capture_output=True, text=True).stdout
    differences = [a - b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    return {
        "rounds": rounds,
        "with_ms": statistics.median(seconds["with"]),
        "without_ms": statistics.median(seconds["without"]),
        "difference_ms": statistics.median(differences),
        "heavy_modules": output.strip().splitlines()[-1],
    }


def cpu_seconds(command: list[str], folder: str) -> float:
    """User and system time of a command and what it starts; fails where the command does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def one_check(rounds: int) -> dict[str, object]:
    """CPU seconds of one check in a fresh process, and of the libraries alone, in alternation.

    The noise floor is measured anew in every process, as in the first run of a project.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = {"libraries": [sys.executable, "-c", LIBRARIES], "pytest": pytest_command("test_plain.py")}
        Path(folder, "test_plain.py").write_text(PLAIN_TEST, encoding="utf-8")
        for name, mark in CHECKS.items():
            test = CHECK.replace("MARK", mark).replace("CHECK", name)
            Path(folder, f"test_{name}.py").write_text(test, encoding="utf-8")
            commands[name] = pytest_command(f"test_{name}.py", "--llmopt-model=tiny-llama")
        return _alternating(commands, rounds, folder)


def collection(rounds: int) -> dict[str, object]:
    """CPU seconds to collect many variants, and as many plain tests, in alternation."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_plain.py").write_text(MANY_PLAIN.replace("COUNT", str(VARIANTS)), encoding="utf-8")
        Path(folder, "test_variants.py").write_text(MANY.replace("COUNT", str(VARIANTS // 2)), encoding="utf-8")
        commands = {
            name: pytest_command(f"test_{name}.py", "--llmopt-model=tiny-llama", "--collect-only")
            for name in ("plain", "variants")
        }
        return {"variants": VARIANTS, **_alternating(commands, rounds, folder)}


def pytest_command(*arguments: str) -> list[str]:
    """One pytest run in a fresh process that keeps nothing."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--llmopt-cache=fresh", *arguments]


def _alternating(commands: dict[str, list[str]], rounds: int, folder: str) -> dict[str, object]:
    """The median CPU seconds of each command; their ratio to the first one, of the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            shutil.rmtree(Path(folder, "fresh"), ignore_errors=True)
            taken = cpu_seconds(command, folder)
            if turn:  # the first turn warms the disk cache
                seconds[name].append(taken)
    first, *others = commands
    ratios = {name: [a / b for a, b in zip(seconds[name], seconds[first], strict=True)] for name in others}
    return {
        "rounds": rounds,
        "cpu_s": {name: round(statistics.median(taken), 2) for name, taken in seconds.items()},
        f"times_{first}": {name: round(statistics.median(values), 2) for name, values in ratios.items()},
    }


def gate(models: list[str]) -> dict[str, object]:
    """The gate's wall time after imports, the share of it that engines work, and the models loaded."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-c", GATE, f"--report={report}", *models]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        content = json.loads(report.read_text(encoding="utf-8"))
    wall, code = output.strip().splitlines()[-1].split()[1::2]
    statuses = [record["status"] for record in content["records"]]
    costs = content["session"]
    return {
        "exit": int(code),
        "wall_s": float(wall),
        "engine_share": costs["engine_seconds"] / float(wall),
        "loads": costs["loads"],
        "variants": costs["variants"],
        "records": {status: statuses.count(status) for status in sorted(set(statuses))},
    }


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--only", action="append", choices=["start_up", "one_check", "collection", "gate"])
    arguments = parser.parse_args()
    parts = {
        "start_up": lambda: start_up(arguments.rounds),
        "one_check": lambda: one_check(max(1, arguments.rounds // 4)),
        "collection": lambda: collection(max(1, arguments.rounds // 4)),
        "gate": lambda: gate(arguments.model),
    }
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    results["date"] = datetime.now(UTC).date().isoformat()
    for name in arguments.only or parts:
        results[name] = parts[name]()
        print(name, json.dumps(results[name], indent=1), flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
