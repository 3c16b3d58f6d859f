"""Power and false alarms of `assert_lossless` on the zoo: planted bugs, benign variants, several seeds each.

    python benchmarks/lossless/measure.py [--models tiny-llama] [--seeds 10] [--only "accept all"] [--weak]

Prints the figures and saves them to `results.json` and `RESULTS.md` beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llmopt.checks.lossless import lossless
from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.side import Context, Side
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.runtime.loader import Loader

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tests/integration"))
VERIFICATION = importlib.import_module("planted_sampling").Verification
OPTIMIZATIONS = Registry("optimizations", "optimization")


@dataclass(frozen=True)
class Case:
    """One candidate and how it is sampled."""

    name: str
    benign: bool
    decoding: str | None = "assisted"
    rule: str = "correct"
    amount: float = 0.0
    dtype: str = "auto"
    settings: dict[str, Any] = field(default_factory=dict)

    def variant(self, model: str, draft: str | None = None) -> Variant:
        """What to load."""
        applied = [Applied("planted.verification", VERIFICATION(self.rule, self.amount))]
        if self.decoding is not None:
            name = f"decoding.{self.decoding}"
            options = {"draft": draft} if self.decoding == "assisted" else {}
            applied.insert(0, Applied(name, OPTIMIZATIONS.load(name)(**options)))
        return Variant(model, tuple(applied), dtype=self.dtype)


WARM = {"temperature": 1.0}
CASES = (
    Case("accept all (SP01)", benign=False, rule="accept_all"),
    Case("accept all (SP01), T=1", benign=False, rule="accept_all", settings=WARM),
    Case("residual from p", benign=False, rule="residual_of_target"),
    Case("residual from p, T=1", benign=False, rule="residual_of_target", settings=WARM),
    Case("ensemble 80 %", benign=False, rule="ensemble", amount=0.8),
    Case("ensemble 80 %, T=1", benign=False, rule="ensemble", amount=0.8, settings=WARM),
    Case("target not warped (SP04)", benign=False, rule="not_warped"),
    Case("argmax draft (SP02)", benign=False, rule="argmax_draft"),
    Case("argmax draft (SP02), T=1", benign=False, rule="argmax_draft", settings=WARM),
    Case("zeroed rows (SP08)", benign=False, rule="zeroed_rows"),
    Case("temperature 0.9 for 1.0", benign=False, rule="temperature_factor", amount=0.9, settings=WARM),
    Case(
        "plain, temperature 0.9 for 1.0",
        benign=False,
        decoding=None,
        rule="temperature_factor",
        amount=0.9,
        settings=WARM,
    ),
    Case("top_k 11 for 10", benign=False, rule="wrong_top_k", amount=1, settings={"top_k": 10}),
    Case("one seed for every verification", benign=False, rule="one_seed"),
    Case("correct", benign=True),
    Case("correct, T=1", benign=True, settings=WARM),
    Case(
        "correct, top_k, top_p, min_p",
        benign=True,
        settings={"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.01},
    ),
    Case("one-hot q (SP17)", benign=True, rule="one_hot"),
    Case("prompt lookup", benign=True, decoding="prompt_lookup"),
    Case("plain", benign=True, decoding=None),
    Case("bfloat16", benign=True, dtype="bfloat16"),
    Case(
        "bfloat16, top_k, top_p",
        benign=True,
        dtype="bfloat16",
        settings={"temperature": 0.8, "top_k": 40, "top_p": 0.95},
    ),
)


def weak_draft(model: str, folder: Path) -> str:
    """The zoo's draft with noise of 0.4 standard deviations on every weight matrix: accepted at about 60 %."""
    import torch
    from safetensors.torch import load_file, save_file

    own, noisy = fixtures_folder() / f"models/{model}-draft", folder / f"{model}-draft"
    shutil.copytree(own, noisy)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: weight + 0.4 * weight.std() * torch.randn(weight.shape, generator=generator)
        if weight.ndim > 1
        else weight
        for name, weight in load_file(own / "model.safetensors").items()
    }
    save_file(weights, noisy / "model.safetensors", metadata={"format": "pt"})
    return str(noisy)


class Bench:
    """Runs cases, keeping models loaded."""

    def __init__(self, draft: str | None) -> None:
        """Start with nothing loaded."""
        self.draft = draft
        self.loader = Loader(Registry("engines", "engine"), LoadPolicy())
        self.prompts = PromptSet.load(fixtures_folder() / "prompts/default.jsonl")

    def side(self, variant: Variant, role: Any = "reference") -> Side:
        """A side with a context, as a test gets it."""
        return self.loader.side(variant, role, Context(open=self.side))

    def run(self, case: Case, model: str, seeds: range, max_tokens: int) -> dict[str, Any]:
        """Every seed of one case."""
        variant = case.variant(model, self.draft)
        candidate, reference = self.side(variant, "candidate"), self.side(variant.unoptimized())
        started, results = time.perf_counter(), []
        for seed in seeds:
            verdict = lossless(candidate, reference, self.prompts, seed=seed, max_tokens=max_tokens, **case.settings)
            metrics = {name: metric.estimate.point for name, metric in verdict.metrics.items()}
            cause = next((line for line in verdict.diagnosis if line.startswith("cause")), "")
            shown = {key: value if math.isfinite(value) else str(value) for key, value in metrics.items()}
            results.append(
                {"seed": seed, "max_tokens": max_tokens, "status": str(verdict.status), "cause": cause, **shown}
            )
            print(f"    {seed} {verdict.status} {verdict.evidence}  {cause}", flush=True)
            if seed == seeds[0] and not case.benign:
                print("\n".join("      " + line for line in verdict.diagnosis))
        seconds = (time.perf_counter() - started) / len(seeds)
        return {
            "case": case.name,
            "model": model,
            "benign": case.benign,
            "draft": "weak" if self.draft else "own",
            "seconds": seconds,
            "runs": results,
        }


def summary(results: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = ["# `assert_lossless` on the zoo", "", "Written by `measure.py`. Alarm above 9.21 nats.", ""]
    lines += [
        "## Planted bugs: tokens to alarm",
        "",
        "| bug | model | draft | alarms | median | worst |",
        "|---|---|---|---|---|---|",
    ]
    for item in results:
        if not item["benign"]:
            tokens = sorted(run["tokens_to_alarm"] for run in item["runs"] if "tokens_to_alarm" in run)
            middle = f"{statistics.median(tokens):.0f} | {tokens[-1]:.0f}" if tokens else "- | -"
            lines.append(
                f"| {item['case']} | {item['model']} | {item['draft']} | {len(tokens)}/{len(item['runs'])} | {middle} |"
            )
    lines += [
        "",
        "## Benign: highest evidence, in nats",
        "",
        "| variant | model | draft | alarms | median | highest | accepted |",
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for item in results:
        if item["benign"]:
            peaks = [float(run["log_wealth"]) for run in item["runs"]]
            alarms = sum(run["status"] != "PASS" for run in item["runs"])
            rates = [run["acceptance_rate"] for run in item["runs"] if "acceptance_rate" in run]
            due = [run["expected_acceptance"] for run in item["runs"] if "expected_acceptance" in run]
            rate = f"{statistics.mean(rates):.0%}" if rates else "-"
            rate += f" (expected {statistics.mean(due):.0%})" if due else ""
            lines.append(
                f"| {item['case']} | {item['model']} | {item['draft']} | {alarms}/{len(peaks)} "
                f"| {statistics.median(peaks):.1f} | {max(peaks):.1f} | {rate} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["tiny-llama", "tiny-qwen", "tiny-gemma"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--max-tokens", type=int, default=2048)
    parser.add_argument("--weak", action="store_true", help="with a draft that is accepted at about 60 percent")
    parser.add_argument("--kind", choices=["all", "bugs", "benign"], default="all")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    kept: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            bench = Bench(weak_draft(model, Path(folder)) if options.weak else None)
            for case in CASES:
                if options.only in case.name and (options.kind in {"all", "benign" if case.benign else "bugs"}):
                    print(f"{model}: {case.name}", flush=True)
                    result = bench.run(case, model, range(options.seeds), options.max_tokens)
                    print(f"    {result['seconds']:.1f} s a run", flush=True)
                    kept.append(result)
                    if not options.no_save:
                        save(result)
    print(summary(kept))


def save(result: dict[str, Any]) -> None:
    """Put one result in the place of the same case of an earlier run."""
    path = HERE / "results.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    keys = ("model", "draft", "case")
    kept = [item for item in known if any(item[key] != result[key] for key in keys)]
    kept = sorted([*kept, result], key=lambda item: [item[key] for key in keys])
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(summary(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
