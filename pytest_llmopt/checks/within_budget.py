"""Worth it: speed against the reference in paired rounds, memory of the live weights, through pytest-benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from pytest_llmopt.checks._not_judged import unanswered
from pytest_llmopt.checks._sequential import Design, Look, doublings
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.budget import Budget
from pytest_llmopt.core.errors import OptionError, RequirementMissingError
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.requests import Generate, MeasureMemory
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.values import LARGEST, Count, Range, Seed
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict, worst
from pytest_llmopt.statistics.timing import paired_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

__all__ = ["within_budget"]

WARMUP_ROUNDS = 1
ERROR_RATE = 0.05
"""That an interval of any limit misses, over all looks at a growing number of rounds."""
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
        rounds: timed rounds to begin with; doubled while the intervals cannot decide, as on a busy machine.
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
    candidate.require(Generate)
    reference.require(Generate)
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
        sampling = SamplingParams(max_new_tokens=new_tokens, ignore_eos=True)
        metrics |= _speed(Race(candidate, reference, [prompt], sampling, budget), benchmark, rounds, max_rounds)
    benchmark.extra_info.update({name: metric.estimate.point for name, metric in metrics.items()})
    not_judged = unanswered(candidate, {"memory": MeasureMemory}) | unanswered(reference, {"saving": MeasureMemory})
    return Verdict("within_budget", metrics, _evidence(metrics), not_judged=not_judged)


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
    """What the weights hold, as far as the engines can say.

    Raises:
        NotAnsweredError: a limit is on what they cannot say.
    """
    if budget.weight_memory is not None or budget.weight_saving is not None:
        candidate.require(MeasureMemory)
    if budget.weight_saving is not None:
        reference.require(MeasureMemory)
    metrics = {}
    if candidate.can(MeasureMemory):
        weight_bytes = candidate.footprint().weight_bytes
        metrics["weight_memory"] = Metric(Estimate.exact(weight_bytes), _at_most(budget.weight_memory), "bytes")
        if reference.can(MeasureMemory):
            saving = reference.footprint().weight_bytes / weight_bytes
            metrics["weight_saving"] = Metric(Estimate.exact(saving), _at_least(budget.weight_saving), "x")
    return metrics


@dataclass(frozen=True)
class BudgetOpinion:
    """The metrics of the rounds so far, some of which may ask for more."""

    metrics: Mapping[str, Metric]

    @property
    def status(self) -> Status:
        """INCONCLUSIVE as long as any is: a limit that is missed does not end the timing of the others."""
        statuses = [metric.status for metric in self.metrics.values() if metric.status is not None]
        return Status.INCONCLUSIVE if Status.INCONCLUSIVE in statuses else worst(statuses or [Status.PASS])


@dataclass
class Race:
    """Both sides timed round by round, the reference before the candidate."""

    candidate: Side
    reference: Side
    prompts: list[TokenIds]
    sampling: SamplingParams
    budget: Budget
    own: Laps = field(default_factory=Laps)
    theirs: Laps = field(default_factory=Laps)

    def benchmarked(self, benchmark: Any, rounds: int) -> None:
        """The first rounds, the candidate's in the benchmark table; what warmed up is dropped."""
        benchmark.pedantic(self.run_candidate, setup=self.run_reference, rounds=rounds, warmup_rounds=WARMUP_ROUNDS)
        self.own.drop(WARMUP_ROUNDS)
        self.theirs.drop(WARMUP_ROUNDS)

    def run_candidate(self) -> None:
        """One round of the candidate."""
        self.own.run(self.candidate, self.prompts, self.sampling)

    def run_reference(self) -> None:
        """One round of the reference."""
        self.theirs.run(self.reference, self.prompts, self.sampling)

    def grow(self, rounds: int) -> None:
        """More rounds, until there are so many."""
        while len(self.own.ttft_s) < rounds:
            self.run_reference()
            self.run_candidate()

    def judge(self, error_rate: float) -> BudgetOpinion:
        """Ratios over the rounds, each interval at the error rate of the look."""
        own, theirs, budget, confidence = self.own, self.theirs, self.budget, 1 - error_rate
        once, decode = np.ones(len(own.ttft_s)), np.array(own.decode_s_per_token)
        ttft_s = np.array(own.ttft_s)
        decode_speedup = paired_ratio(np.array(theirs.decode_s_per_token), decode, confidence)
        prefill_speedup = paired_ratio(np.array(theirs.ttft_s), ttft_s, confidence)
        tokens_per_s = paired_ratio(once, decode, confidence)
        ttft_ms = paired_ratio(1e3 * ttft_s, once, confidence)
        return BudgetOpinion(
            {
                "decode_speedup": Metric(decode_speedup, _at_least(budget.decode_speedup), "x"),
                "prefill_speedup": Metric(prefill_speedup, _at_least(budget.prefill_speedup), "x"),
                "ttft_ms": Metric(ttft_ms, _at_most(budget.ttft_ms), "ms"),
                "decode_tokens_per_s": Metric(tokens_per_s, _at_least(budget.decode_tokens_per_s), "tokens/s"),
            }
        )


def _speed(race: Race, benchmark: Any, rounds: int, max_rounds: int) -> Mapping[str, Metric]:
    sizes = doublings(rounds, max(rounds, max_rounds))
    looks = [
        Look(partial(race.benchmarked, benchmark, rounds)),
        *(Look(partial(race.grow, size)) for size in sizes[1:]),
    ]
    return Design(ERROR_RATE, len(looks)).run(looks, race.judge).metrics


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
