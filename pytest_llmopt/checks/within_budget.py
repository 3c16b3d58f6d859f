"""Worth it: speed against the reference in paired rounds, memory of the live weights, through pytest-benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.budget import Budget
from pytest_llmopt.core.errors import OptionError, RequirementMissingError
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.values import LARGEST, Count, Range, Seed
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.statistics.timing import paired_ratio

if TYPE_CHECKING:
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

__all__ = ["within_budget"]

WARMUP_ROUNDS = 1
LEAST_TOKENS = 16
TIMED = ("decode_speedup", "prefill_speedup", "ttft_ms", "decode_tokens_per_s")


@dataclass
class Laps:
    """Seconds of one side, a value per round."""

    ttft_s: list[float] = field(default_factory=list)
    """Time to first token."""
    decode_s_per_token: list[float] = field(default_factory=list)
    """Time of each token after the first step."""

    def run(self, engine: Side, prompts: list[TokenIds], sampling: SamplingParams) -> None:
        """Decode once and keep the times."""
        timing = engine.generate(prompts, sampling)[0].timing
        if not timing.decode_tokens:
            msg = f"all {sampling.max_new_tokens} tokens came in one step; give more new_tokens to time what follows it"
            raise OptionError(msg)
        self.ttft_s.append(timing.ttft_s)
        self.decode_s_per_token.append(timing.decode_s / timing.decode_tokens)

    def drop(self, rounds: int) -> None:
        """Forget the first rounds: they warmed up caches, graphs and clocks."""
        del self.ttft_s[:rounds], self.decode_s_per_token[:rounds]


@checked
def within_budget(
    candidate: Side,
    reference: Side,
    benchmark: Any,
    *,
    prompts: object = None,
    prompt_tokens: Count = 64,
    new_tokens: Annotated[int, Range(LEAST_TOKENS, LARGEST)] = 24,
    rounds: Count = 8,
    max_rounds: Count = 40,
    seed: Seed = 0,
    **limits: float | str,
) -> Verdict:
    """A verdict on whether the candidate keeps its budget of time and memory.

    The reference runs before every timed round of the candidate, so that both see the same state of the machine, and
    speed-ups are judged as ratios with an interval over the rounds. The benchmark table times the candidate's rounds.

    Args:
        candidate: the optimized side.
        reference: the side that it is timed against.
        benchmark: the fixture of pytest-benchmark.
        prompts: the first of these is decoded; the default is `prompt_tokens` random tokens.
        prompt_tokens: length of the default prompt.
        new_tokens: tokens to decode in each round, at least 16, so that a drafted block is not all of it.
        rounds: timed rounds to begin with; a busy machine gets more while the intervals cannot decide.
        max_rounds: how many to run at most.
        seed: seed of the default prompt.
        **limits: fields of `Budget`, instead of the `budget` marker.

    Raises:
        OptionError: no limit is given, or one is wrong.
        RequirementMissingError: a limit on time is given and pytest-benchmark is switched off.
    """
    if not hasattr(benchmark, "disabled"):
        msg = f"assert_within_budget: benchmark={shown(benchmark)} cannot time anything; give the fixture `benchmark`"
        raise OptionError(msg)
    budget = _budget(candidate, limits)
    timed = [name for name in TIMED if getattr(budget, name) is not None]
    metrics = _memory(candidate, reference, budget)
    if benchmark.disabled:
        if timed:
            msg = (
                f"{', '.join(timed)} cannot be timed while pytest-benchmark is off, "
                "as it is under pytest-xdist: use -n 0"
            )
            name = "benchmark"
            raise RequirementMissingError(name, msg)
        benchmark(lambda: None)
    else:
        prompt = _prompt(candidate, reference, prompts, prompt_tokens, seed)
        metrics |= _speed(candidate, reference, benchmark, [prompt], new_tokens, (rounds, max_rounds), budget)
    benchmark.extra_info.update({name: metric.estimate.point for name, metric in metrics.items()})
    return Verdict("within_budget", metrics, _evidence(metrics))


def _budget(candidate: Side, limits: dict[str, float | str]) -> Budget:
    budget = build(Budget, "within_budget", (), limits) if limits else candidate.context.budget
    if budget is None or budget.is_empty:
        msg = "no budget: add @llmopt.budget(decode_speedup=..., weight_memory=...) or give limits to the assertion"
        raise OptionError(msg)
    return budget


def _prompt(candidate: Side, reference: Side, prompts: object, length: int, seed: int) -> TokenIds:
    if prompts is not None:
        return PromptSet.of(prompts)[0].encode(candidate)
    known = min(candidate.vocab_size, reference.vocab_size)
    return tuple(int(token) for token in np.random.default_rng(seed).integers(0, known, length))


def _memory(candidate: Side, reference: Side, budget: Budget) -> dict[str, Metric]:
    weight_bytes = candidate.footprint().weight_bytes
    saving = reference.footprint().weight_bytes / weight_bytes
    return {
        "weight_memory": Metric(Estimate.exact(weight_bytes), _at_most(budget.weight_memory), "bytes"),
        "weight_saving": Metric(Estimate.exact(saving), _at_least(budget.weight_saving), "x"),
    }


def _speed(
    candidate: Side,
    reference: Side,
    benchmark: Any,
    prompts: list[TokenIds],
    new_tokens: int,
    rounds: tuple[int, int],
    budget: Budget,
) -> dict[str, Metric]:
    own, theirs = Laps(), Laps()
    sampling = SamplingParams(max_new_tokens=new_tokens, ignore_eos=True)
    benchmark.pedantic(
        lambda: own.run(candidate, prompts, sampling),
        setup=lambda: theirs.run(reference, prompts, sampling),
        rounds=rounds[0],
        warmup_rounds=WARMUP_ROUNDS,
    )
    own.drop(WARMUP_ROUNDS)
    theirs.drop(WARMUP_ROUNDS)
    metrics = _speed_metrics(own, theirs, budget)
    while len(own.ttft_s) < rounds[1] and Status.INCONCLUSIVE in {metric.status for metric in metrics.values()}:
        theirs.run(reference, prompts, sampling)
        own.run(candidate, prompts, sampling)
        metrics = _speed_metrics(own, theirs, budget)
    return metrics


def _speed_metrics(own: Laps, theirs: Laps, budget: Budget) -> dict[str, Metric]:
    once, decode = np.ones(len(own.ttft_s)), np.array(own.decode_s_per_token)
    ttft_s = np.array(own.ttft_s)
    decode_speedup = paired_ratio(np.array(theirs.decode_s_per_token), decode)
    prefill_speedup = paired_ratio(np.array(theirs.ttft_s), ttft_s)
    tokens_per_s = paired_ratio(once, decode)
    return {
        "decode_speedup": Metric(decode_speedup, _at_least(budget.decode_speedup), "x"),
        "prefill_speedup": Metric(prefill_speedup, _at_least(budget.prefill_speedup), "x"),
        "ttft_ms": Metric(paired_ratio(1e3 * ttft_s, once), _at_most(budget.ttft_ms), "ms"),
        "decode_tokens_per_s": Metric(tokens_per_s, _at_least(budget.decode_tokens_per_s), "tokens/s"),
    }


def _at_most(limit: float | str | None) -> Tolerance | None:
    return None if limit is None else Tolerance(at_most=float(limit))


def _at_least(limit: float | None) -> Tolerance | None:
    return None if limit is None else Tolerance(at_least=limit)


def _evidence(metrics: dict[str, Metric]) -> str:
    parts = []
    for name, metric in metrics.items():
        estimate = metric.estimate
        if name.endswith(("speedup", "saving")):
            interval = f" [{estimate.low:.2f}, {estimate.high:.2f}]" if estimate.low != estimate.high else ""
            wanted = "" if metric.tolerance is None else f" of {metric.tolerance.limit:g}x"
            parts.append(f"{name} {estimate.point:.2f}x{interval}{wanted}")
    return ", ".join(parts)
