"""The same function by other arithmetic: caches, compilation, attention kernels, greedy speculation.

The candidate decodes once, through its real decode path, and reports the log-probabilities that it acted on; the
reference then scores exactly those tokens. No cascade after a first mismatch: every position is evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._places import worst_place
from pytest_llmopt.core.engine import Generation, SamplingParams
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance, Verdict
from pytest_llmopt.statistics.agreement import regret
from pytest_llmopt.statistics.divergence import kl_divergence
from pytest_llmopt.statistics.intervals import cluster_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs

__all__ = ["equivalent"]


@dataclass(frozen=True)
class Limits:
    """What other arithmetic may change, in nats."""

    tie_margin: float
    """Most regret: what the reference's best token may be ahead of the one that was emitted."""
    mean_kl: float
    worst_kl: float


LIMITS = {
    "float64": Limits(0.02, 1e-5, 5e-4),
    "float32": Limits(0.02, 1e-5, 5e-4),
    "float16": Limits(0.05, 5e-5, 5e-3),
    "bfloat16": Limits(0.10, 5e-4, 2e-2),
}
"""By dtype. A TF32 matrix product (mean KL 1.5e-6, worst 5e-5 in float32) must pass; the smallest real bugs known
(a softmax scale 2 % off: mean 1e-4, worst 5e-3) must not. In 16 bits rounding alone gives a mean of 1e-4."""


def equivalent(
    candidate: Engine,
    reference: Engine,
    prompts: object,
    *,
    max_new_tokens: int = 64,
    num_prompts: int = 24,
    limits: Limits | None = None,
) -> Verdict:
    """A verdict on whether the candidate decodes greedily as the reference would, up to ties.

    Args:
        candidate: the side that decodes.
        reference: the side that scores what was decoded.
        prompts: texts, token ids or a prompt set; the first `num_prompts` are used.
        max_new_tokens: tokens to decode after each prompt.
        num_prompts: how many prompts to use.
        limits: what to tolerate; the default belongs to the dtype.
    """
    chosen = PromptSet.of(prompts).take(num_prompts)
    limits = limits or LIMITS[candidate.dtype]
    encoded = [prompt.encode(candidate) for prompt in chosen]
    sampling = SamplingParams(max_new_tokens=max_new_tokens)
    generations = candidate.generate(encoded, sampling)
    compiled = candidate.compilations()
    # Once more, now that caches, graphs and drafts have been used: what is left over from a call shows in the next.
    again = encoded[: max(1, len(encoded) // 4)]
    generations += candidate.generate(again, sampling)
    recompiled = candidate.compilations() - compiled
    ids = [prompt.id for prompt in chosen] + [f"{prompt.id} (second call)" for prompt in chosen.take(len(again))]
    scored = reference.score([item.continuation for item in generations])
    return _judge(candidate, ids, generations, scored, limits, recompiled if compiled else None, max_new_tokens)


def _judge(
    candidate: Engine,
    ids: Sequence[str],
    generations: Sequence[Generation],
    scored: Sequence[TopLogprobs],
    limits: Limits,
    recompiled: int | None,
    max_new_tokens: int,
) -> Verdict:
    regrets = [regret(item) for item in scored]
    divergences = [kl_divergence(item, own.logprobs) for item, own in zip(scored, generations, strict=True)]
    nonfinite = sum(int((~own.logprobs.is_finite).sum()) for own in generations)
    unfinished = sum(own.finish_reason == "length" and len(own.logprobs) < max_new_tokens for own in generations)
    tokens, n = sum(map(len, regrets)), len(generations)
    worst_regret, worst_kl = (float(np.max(np.concatenate(values))) for values in (regrets, divergences))
    metrics = {
        "max_regret": Metric(Estimate.exact(worst_regret, tokens), Tolerance(at_most=limits.tie_margin), "nats"),
        "mean_kl": Metric(cluster_mean(divergences), Tolerance(at_most=limits.mean_kl), "nats/token"),
        "worst_kl": Metric(Estimate.exact(worst_kl, tokens), Tolerance(at_most=limits.worst_kl), "nats"),
        "nonfinite": Metric(Estimate.exact(nonfinite, tokens), Tolerance(at_most=0), "positions"),
        "cut_short": Metric(Estimate.exact(unfinished, n), Tolerance(at_most=0), "prompts"),
        "exact_prompts": Metric(
            Estimate.exact(float(np.mean([not np.any(item) for item in regrets])), n), unit="share"
        ),
    }
    evidence = f"{tokens:,} tokens, {_ties(regrets)}, worst KL {worst_kl:.1e} of {limits.worst_kl:.0e}"
    drafted = sum(own.drafted_tokens for own in generations)
    if drafted:
        accepted = sum(own.accepted_tokens for own in generations)
        passes = sum(len(own.steps) for own in generations)
        metrics["acceptance_rate"] = Metric(Estimate.exact(accepted / drafted, drafted), unit="share")
        metrics["target_passes_per_token"] = Metric(Estimate.exact(passes / tokens, tokens))
        evidence += f", accepted {accepted / drafted:.0%}, {passes / tokens:.2f} target passes/token"
    if recompiled is not None:
        metrics["recompilations"] = Metric(Estimate.exact(recompiled), Tolerance(at_most=0), "graphs when warm")
        evidence += f", {recompiled} recompiled when warm"
    return Verdict(
        "equivalent", metrics, evidence, _diagnosis(candidate, ids, generations, scored, regrets, divergences)
    )


def _ties(regrets: Sequence[FloatArray]) -> str:
    """How many prompts came out exactly as the reference decodes them, and the choices that differ."""
    differing = int(sum((item > 0).sum() for item in regrets))
    return "every choice the same" if not differing else f"{differing} choices differ"


def _diagnosis(
    candidate: Engine,
    ids: Sequence[str],
    generations: Sequence[Generation],
    scored: Sequence[TopLogprobs],
    regrets: Sequence[FloatArray],
    divergences: Sequence[FloatArray],
) -> tuple[str, ...]:
    continuations = [item.continuation for item in generations]
    lines = []
    for name, values in (("regret", regrets), ("KL", divergences)):
        row, place = worst_place(ids, continuations, values)
        lines.append(f"worst {name} {values[row][place.index]:.3g} nats:")
        lines += [f"  {line}" for line in place.describe(candidate, scored[row], generations[row].logprobs)]
    return tuple(lines)
