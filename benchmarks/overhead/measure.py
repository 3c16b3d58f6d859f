"""What the plugin itself costs: start-up of a run that does not use it, and the gate's time outside the engines.

    python benchmarks/overhead/measure.py [--rounds 20] [--model tiny-llama]

Prints the figures and saves them to `results.json` beside this file. Ratios and differences are taken in one run, in
alternation, since the machines are shared; absolute times mean nothing elsewhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"
PLAIN_TEST = "def test_nothing(): pass\n"
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
    arguments = parser.parse_args()
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "start_up": start_up(arguments.rounds),
        "gate": gate(arguments.model),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
