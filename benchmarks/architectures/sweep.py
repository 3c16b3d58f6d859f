"""`make architectures`: every causal language model of the installed Transformers before the equivalence check.

    python benchmarks/architectures/sweep.py [TYPE ...] [--seed 0] [--workers 2]

Of each type, a tiny random copy is the reference. Its noise floor says which benign changes prove themselves. Then two
candidates are judged: the same model loaded once more, which must PASS, and one whose last layer is scaled by 1.03,
which must FAIL. Writes `results.json` and `RESULTS.md` beside this file; one type takes a process of its own, and what
is done is kept, so the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

from pytest_llmopt import LlmoptError, Promise

HERE = Path(__file__).parent
STATE = Path(".llmopt/architectures")
SECONDS = 240
"""For one type, before it counts as failed."""
FACTOR = 1.03
PROMPTS = 24


@dataclass(frozen=True)
class Scaled:
    """Everything that the last layer of the decoder holds times a factor, norms included: some undo it otherwise."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT
    requirements: ClassVar[tuple[Any, ...]] = ()
    conflicts: ClassVar[dict[str, str]] = {}

    factor: float = FACTOR

    def for_transformers(self, plan: Any) -> None:
        """Scale once the model is loaded."""
        plan.after_load.append(self.change)

    def change(self, model: Any) -> None:
        """The layers are the largest list of modules of the decoder, which is not that of pictures or of sounds."""
        import torch

        decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
        lists = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList) and len(module) > 1]
        layers = max(lists, key=lambda layer: sum(part.numel() for part in layer.parameters()))
        with torch.no_grad():
            for part in layers[len(layers) - 1].parameters():
                part.mul_(self.factor)


def judge(model_type: str, seed: int, device: str) -> dict[str, Any]:
    """What the check says of one type."""
    import torch
    import transformers
    from models import build

    from pytest_llmopt.checks._floor.floor import Benign
    from pytest_llmopt.checks.equivalent import equivalent
    from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.core.variant import Applied, Variant
    from pytest_llmopt.runtime.loader import Loader

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    prompts = PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl").take(PROMPTS)
    result: dict[str, Any] = {"type": model_type, "seed": seed, "device": device}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / model_type
        try:
            build(model_type, folder, seed)
        except Exception as error:  # noqa: BLE001 - of the library, or of the copy
            return result | {"not_built": f"{type(error).__name__}: {error}"[:300]}
        loader = Loader(Registry("engines", "engine"), LoadPolicy(threads=1))
        plain = Variant(str(folder), dtype="float32", device=device)
        scaled = Variant(str(folder), (Applied("mutants.scaled", Scaled()),), dtype="float32", device=device)
        context = loader.context(Path(scratch) / "cache")
        try:
            reference = loader.side(plain, "reference", context)
            floor = Benign(context.cache).floor(reference, prompts)
        except LlmoptError as error:
            return result | {"refused": f"{type(error).__name__}: {error}"[:400]}
        result["floor"] = {
            "changes": dict(floor.changes),
            "left_out": {name: str(why)[:200] for name, why in floor.left_out.items()},
            "contradictions": dict(floor.contradictions),
        }
        for name, variant in (("control", plain), ("scaled", scaled)):
            candidate = loader.side(variant, context=context, anew=True)
            started = time.perf_counter()
            try:
                verdict = equivalent(candidate, reference, prompts)
                mean = verdict.metrics["mean_kl"].estimate.point
                result[name] = {"status": str(verdict.status), "mean_kl": mean, "evidence": verdict.evidence}
            except LlmoptError as error:
                result[name] = {"status": type(error).__name__, "evidence": str(error)[:400]}
            result[name]["seconds"] = round(time.perf_counter() - started, 1)
            candidate.close()
    return result


def _in_its_own_process(model_type: str, seed: int, device: str) -> dict[str, Any]:
    file = STATE / f"{model_type}-{seed}-{device}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    command = [sys.executable, __file__, "--one", model_type, "--seed", str(seed), "--device", device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        lines = done.stdout.strip().splitlines()
        result = json.loads(lines[-1]) if done.returncode == 0 and lines else None
        ended = f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"
    except subprocess.TimeoutExpired:
        result, ended = None, f"not done after {SECONDS} s"
    result = result or {"type": model_type, "seed": seed, "crashed": ended}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result), encoding="utf-8")
    return result


def main() -> None:
    """Judge what is asked for, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sample", type=int, default=0, help="so many types, chosen by the seed; all by default")
    parser.add_argument("--device", default="cpu", help="results of another one are printed, not written here")
    parser.add_argument("--one", metavar="TYPE", help="judge this one here and print the result as JSON")
    arguments = parser.parse_args()
    sys.path.insert(0, str(HERE))
    if arguments.one:
        print(json.dumps(judge(arguments.one, arguments.seed, arguments.device)))
        return
    from models import catalogue
    from sweep_report import markdown

    results = []
    names = list(arguments.types or catalogue())
    if arguments.sample:
        names = random.Random(arguments.seed).sample(names, min(arguments.sample, len(names)))  # noqa: S311 - no secret
    with ThreadPoolExecutor(arguments.workers) as pool:
        futures = [pool.submit(_in_its_own_process, name, arguments.seed, arguments.device) for name in names]
        for count, future in enumerate(as_completed(futures), 1):
            results.append(future.result())
            print(f"{count} of {len(names)}: {results[-1]['type']}", flush=True)
    results.sort(key=lambda item: item["type"])
    if not arguments.types and arguments.device == "cpu":
        HERE.joinpath("results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        HERE.joinpath("RESULTS.md").write_text(markdown(results, arguments.seed, len(catalogue())), encoding="utf-8")
    print(markdown(results, arguments.seed, len(catalogue())))


if __name__ == "__main__":
    main()
