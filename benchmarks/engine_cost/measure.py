"""What evidence costs: logits into `TopLogprobs`, and an equivalence check beside the candidate's own decoding.

    python benchmarks/engine_cost/measure.py [--rounds 2] [--model tiny-llama] [--only evidence|check]

Writes `results.json` and `RESULTS.md` beside this file. Ratios are taken in one run, in alternation, since machines are
shared; absolute times mean nothing elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.engine import EngineWrapper
from pytest_llmopt.core.requests import Answer, ForceDecode, Generate, Request, Score, Vary

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

HERE = Path(__file__).parent
TOKENS, VOCABULARY, TOP_K = 4096, 128 * 1024, 1024
EVIDENCE_LIMIT, CHECK_LIMIT = 1.5, 1.15
MIB = 2**20
FIRST_PASSES = 2 * 48
"""Of the check's first decode: 16 prompts in batches of 8, 48 tokens each."""


def _peak_bytes(call: Callable[[], object]) -> int:
    """How far the process's memory rose above what it held before, at most (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts from here
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def evidence(rounds: int, dtype: str) -> dict[str, Any]:
    """Seconds for all positions, chunk by chunk as scoring does, beside logsumexp and topk alone on the same chunks."""
    import torch

    from pytest_llmopt.engines._transformers.evidence import top_logprobs
    from pytest_llmopt.engines._transformers.scoring import LOGITS_AT_ONCE

    torch.set_num_threads(1)
    step = max(1, LOGITS_AT_ONCE // VOCABULARY)
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(step, VOCABULARY, generator=generator)).to(getattr(torch, dtype))
    tokens = torch.randint(0, VOCABULARY, (step,), generator=generator)

    def alone() -> tuple[torch.Tensor, Any]:
        return torch.logsumexp(logits, dim=-1), logits.topk(TOP_K, dim=-1)

    sides: dict[str, Callable[[], object]] = {"evidence": lambda: top_logprobs(logits, tokens, TOP_K), "alone": alone}
    for call in sides.values():
        call()
    extra = {f"{name}_extra_mib": _peak_bytes(call) / MIB for name, call in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        totals = dict.fromkeys(sides, 0.0)
        for _ in range(TOKENS // step):
            for name, call in sides.items():
                started = time.perf_counter()
                call()
                totals[name] += time.perf_counter() - started
        for name, total in totals.items():
            seconds[name].append(total)
    ratios = [a / b for a, b in zip(seconds["evidence"], seconds["alone"], strict=True)]
    return {
        "dtype": dtype,
        "shape": [TOKENS, VOCABULARY],
        "top_k": TOP_K,
        "positions_at_once": step,
        "chunk_mib": step * VOCABULARY * 4 / MIB,
        **extra,
        "seconds": seconds,
        "ratio": statistics.median(ratios),
        "limit": EVIDENCE_LIMIT,
    }


@dataclass(frozen=True)
class Timed(EngineWrapper):
    """An engine whose answers are timed by what they are for."""

    role: str
    seconds: dict[str, float]
    calls: list[Generate] = field(default_factory=list)

    def ask(self, request: Request[Answer]) -> Answer:
        """The engine's answer; every decode after the first is the check's second look."""
        if isinstance(request, Generate):
            what = "decode again" if self.calls else "decode"
            self.calls.append(request)
        elif isinstance(request, ForceDecode):
            what = "read in pieces" if request.report_prompt else "forced decoding"
        else:
            what = "score" if isinstance(request, (Score, Vary)) else "other requests"
        started = time.perf_counter()
        try:
            return self.engine.ask(request)
        finally:
            key = f"{self.role}: {what}"
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - started


@dataclass
class _Passes:
    """Forward passes of the candidate's model."""

    count: int = 0

    @contextmanager
    def counted(self, engine: Any) -> Iterator[None]:
        """Count what runs inside."""
        handle = engine._running.loaded.model.register_forward_pre_hook(self._one_more)  # noqa: SLF001
        try:
            yield
        finally:
            handle.remove()

    def _one_more(self, *_: object) -> None:
        self.count += 1


def check(rounds: int, model: str, dtype: str) -> dict[str, Any]:
    """Seconds of an equivalence check with default sizes, by what they are spent on; the noise floor is known."""
    from pytest_llmopt.checks._floor.floor import Benign
    from pytest_llmopt.checks.equivalent import equivalent
    from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.variant import Applied, Variant
    from pytest_llmopt.runtime.loader import Loader

    loader = Loader(Registry("engines", "engine"), LoadPolicy())
    prompts = PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")
    static = Registry("optimizations", "optimization").load("decoding.static_cache")()
    reference = Variant(model, dtype=dtype)
    candidate = Variant(model, (Applied("decoding.static_cache", static),), dtype=dtype)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        loader.side(reference).generate([loader.side(reference).encode("warm")], SamplingParams(2))
        started = time.perf_counter()
        Benign(Path(folder)).floor(loader.side(reference), prompts)
        floor_seconds = time.perf_counter() - started
        for _ in range(rounds):
            seconds: dict[str, float] = {}
            context = loader.context(Path(folder))
            sides = [
                replace(side, engine=Timed(side.engine, side.role, seconds))
                for side in (loader.side(candidate, "candidate", context), loader.side(reference, "reference", context))
            ]
            passes = _Passes()
            started = time.perf_counter()
            with passes.counted(loader.get(candidate)):
                verdict = equivalent(sides[0], sides[1], prompts)
            total = time.perf_counter() - started
            seconds["statistics and text"] = total - sum(seconds.values())
            run = {"seconds": seconds, "total": total, "status": str(verdict.status), "passes": passes.count}
            runs.append(run | {"looked_at": dict(verdict.looked_at)})
    loader.close()
    own = [sum(s for name, s in run["seconds"].items() if _decoding(name)) for run in runs]
    return {
        "model": model,
        "dtype": dtype,
        "floor_seconds": floor_seconds,
        "floor_to_first_decode": statistics.median(floor_seconds / run["seconds"]["candidate: decode"] for run in runs),
        "passes_to_first_decode": statistics.median(run["passes"] / FIRST_PASSES for run in runs),
        "runs": runs,
        "ratio_to_first_decode": statistics.median(run["total"] / run["seconds"]["candidate: decode"] for run in runs),
        "ratio_to_all_candidate_decoding": statistics.median(
            run["total"] / mine for run, mine in zip(runs, own, strict=True)
        ),
        "one_decode_and_one_reference_forward": statistics.median(
            (run["seconds"]["candidate: decode"] + run["seconds"]["reference: score"])
            / run["seconds"]["candidate: decode"]
            for run in runs
        ),
        "limit": CHECK_LIMIT,
    }


def _decoding(name: str) -> bool:
    return name.startswith("candidate: ")


def _markdown(results: dict[str, Any]) -> str:
    lines = ["# What evidence costs", "", "Made by `make enginecost`. Ratios of one run, in alternation.", ""]
    if "evidence" in results:
        lines += [
            f"## Logits of {TOKENS:,} tokens x {VOCABULARY:,} into `TopLogprobs`",
            "",
            (
                f"Against `torch.logsumexp` and `torch.topk` (k = {TOP_K:,}) alone on the same chunks; at most "
                f"{EVIDENCE_LIMIT} times. Extra memory is the peak above what was held before, per chunk."
            ),
            "",
            "| dtype | ratio | evidence, s | alone, s | chunk in float32 | extra memory | of the two alone | |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for item in results["evidence"]:
            kept = item["ratio"] <= EVIDENCE_LIMIT and item["evidence_extra_mib"] <= item["chunk_mib"]
            lines.append(
                f"| {item['dtype']} | {item['ratio']:.2f} | {statistics.median(item['seconds']['evidence']):.1f} | "
                f"{statistics.median(item['seconds']['alone']):.1f} | {item['chunk_mib']:.0f} MiB | "
                f"{item['evidence_extra_mib']:.0f} MiB | {item['alone_extra_mib']:.0f} MiB | "
                f"{'kept' if kept else '**not kept**'} |"
            )
        lines.append("")
    for item in results.get("check", []):
        lines += [
            f"## An equivalence check with default sizes: static cache, {item['model']}, {item['dtype']}",
            "",
            (
                f"Whole check over the candidate's first decode: **{item['ratio_to_first_decode']:.2f}** (at most "
                f"{CHECK_LIMIT}); over all that the candidate does (second call, forced tokens, texts in pieces): "
                f"{item['ratio_to_all_candidate_decoding']:.2f}; one decode and the reference's scoring alone: "
                f"{item['one_decode_and_one_reference_forward']:.2f}. The noise floor, measured once per environment "
                f"and not counted: {item['floor_to_first_decode']:.2f} times the first decode. Forward passes of the "
                f"candidate: {item['passes_to_first_decode']:.2f} times those of its first decode, for "
                f"{sum(n for what, n in item['runs'][-1]['looked_at'].items() if what.endswith('positions')):,} "
                f"positions up to {item['runs'][-1]['looked_at']['deepest position']:,}."
            ),
            "",
            "| part | share of the check | of the first decode |",
            "|---|---|---|",
        ]
        run = item["runs"][-1]
        for name, seconds in sorted(run["seconds"].items(), key=lambda part: -part[1]):
            first = seconds / run["seconds"]["candidate: decode"]
            lines.append(f"| {name} | {seconds / run['total']:.0%} | {first:.2f} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="tiny-llama")
    parser.add_argument("--dtype", action="append", default=[])
    parser.add_argument("--only", choices=("evidence", "check"))
    arguments = parser.parse_args()
    dtypes = arguments.dtype or ["float32", "bfloat16"]
    file = HERE / "results.json"
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if arguments.only != "check":
        results["evidence"] = [evidence(arguments.rounds, dtype) for dtype in dtypes]
    if arguments.only != "evidence":
        results["check"] = [check(arguments.rounds, arguments.model, dtype) for dtype in dtypes[:1]]
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    HERE.joinpath("RESULTS.md").write_text(_markdown(results), encoding="utf-8")
    print(_markdown(results))


if __name__ == "__main__":
    main()
