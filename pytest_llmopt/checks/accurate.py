"""Close to the original, at a stated price: quantized weights.

Two kinds of positions count. The prompts' own text, scored by both sides in one forward pass, shows what prefill does;
tokens that the candidate samples show what its decode path does, which may run other kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pytest_llmopt.checks._places import worst_place
from pytest_llmopt.core.engine import Continuation, SamplingParams
from pytest_llmopt.core.errors import EmptySampleError, OptionError
from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.prompts import Prompt, PromptSet
from pytest_llmopt.core.requirements import format_bytes
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.statistics.agreement import flip_rate, top1_agreement
from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference
from pytest_llmopt.statistics.intervals import (
    cluster_mean,
    cluster_proportion,
    cluster_quantile,
    confidence_per_look,
    smallest_detectable_effect,
)
from pytest_llmopt.statistics.mcnemar import mcnemar
from pytest_llmopt.statistics.perplexity import perplexity_ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.core.engine import Engine, Timing
    from pytest_llmopt.core.logprobs import BoolArray, FloatArray, TopLogprobs

__all__ = ["accurate"]

CONFIDENCE = 0.95
"""That every interval holds, over all looks at the sample."""
FLIP_MARGIN = 0.5
"""A changed first choice counts as a flip where the reference's lead was at least this, in nats; else it is a tie."""

Value = TypeVar("Value", "FloatArray", "BoolArray")


@dataclass(frozen=True)
class Scored:
    """Some tokens of one prompt with what both sides thought of them."""

    prompt_id: str
    continuation: Continuation
    reference: TopLogprobs
    candidate: TopLogprobs
    decoded: bool
    """Whether the candidate's values come from its decode path."""
    kl: FloatArray
    """KL(reference || candidate) in nats: `[tokens]`."""
    agrees: BoolArray
    """Whether both sides prefer the same token: `[tokens]`."""
    tokens_per_s: float | None
    """Of its prompt, in the batch that it was decoded in; None where it was not decoded, or in one step."""

    @classmethod
    def of(
        cls,
        name: str,
        continuation: Continuation,
        reference: TopLogprobs,
        candidate: TopLogprobs,
        timing: Timing | None,
    ) -> Scored:
        """Compare both sides once; the statistics of a growing sample come back to it."""
        kl = kl_divergence(reference, candidate)
        agrees = top1_agreement(reference, candidate)
        timed = timing is not None and timing.decode_tokens > 0 and timing.decode_s > 0
        tokens_per_s = timing.decode_tokens / timing.decode_s if timing and timed else None
        return cls(name, continuation, reference, candidate, timing is not None, kl, agrees, tokens_per_s)


def accurate(
    candidate: Engine,
    reference: Engine,
    prompts: object,
    *,
    kl_divergence: float | None = None,
    top1_agreement: float | None = None,
    perplexity_ratio: float | None = None,
    max_new_tokens: int = 32,
    num_prompts: int = 24,
    max_prompts: int = 192,
    outcomes: Sequence[tuple[bool, bool]] | None = None,
    accuracy_loss: float = 0.01,
    seed: int = 0,
) -> Verdict:
    """A verdict on whether the candidate is as accurate as promised, with intervals clustered by prompt.

    Starts with `num_prompts` and doubles them while the intervals cannot decide, up to `max_prompts`.

    Args:
        candidate: the optimized side.
        reference: the side that it must stay close to.
        prompts: texts, token ids or a prompt set.
        kl_divergence: most mean KL(reference || candidate), in nats per token.
        top1_agreement: least share of positions where both prefer the same token.
        perplexity_ratio: most perplexity of the candidate over that of the reference, on the prompts' text.
        max_new_tokens: tokens that the candidate samples after each prompt.
        num_prompts: how many prompts to begin with.
        max_prompts: how many to use at most.
        outcomes: scored items of a benchmark of your own: whether the reference and the candidate got each one right.
        accuracy_loss: the share of items that the candidate may lose, net; judged where `outcomes` are given.
        seed: seed of the sampling.

    Raises:
        OptionError: a limit is missing and the candidate's optimizations state none.
    """
    limits = _limits(candidate, kl_divergence, top1_agreement, perplexity_ratio)
    chosen = PromptSet.of(prompts).take(max_prompts)
    sampling = SamplingParams(max_new_tokens=max_new_tokens, temperature=1.0, seed=seed)
    scored: list[Scored] = []
    used, count = 0, min(num_prompts, len(chosen))
    # Every look at a growing sample is a chance to be wrong, so each interval is wider than it would be alone.
    looks = 1 + max(0, math.ceil(math.log2(len(chosen) / count)))
    while True:
        scored += _score(candidate, reference, chosen.prompts[used:count], sampling)
        used = count
        metrics = _metrics(scored, limits, confidence_per_look(CONFIDENCE, looks))
        statuses = {metric.status for metric in metrics.values()}
        if Status.INCONCLUSIVE not in statuses or Status.FAIL in statuses or used == len(chosen):
            break
        count = min(2 * used, len(chosen))
    if outcomes is not None:
        metrics |= _paired_outcomes(outcomes, accuracy_loss)
    metrics |= _costs(candidate, reference, scored)
    weight_bytes = candidate.footprint().weight_bytes
    return Verdict("accurate", metrics, _evidence(metrics, limits), _diagnosis(candidate, scored, limits, weight_bytes))


def _limits(
    candidate: Engine, kl_divergence: float | None, top1_agreement: float | None, perplexity_ratio: float | None
) -> AccuracyLimits:
    """The limits given, else the loosest that the candidate's optimizations state for themselves."""
    stated = [
        item.options.accuracy_limits
        for item in candidate.variant.optimizations
        if hasattr(item.options, "accuracy_limits")
    ]
    if not stated and None in {kl_divergence, top1_agreement, perplexity_ratio}:
        msg = (
            f"{candidate.variant.label} states no limits for accuracy: "
            "give kl_divergence=, top1_agreement= and perplexity_ratio="
        )
        raise OptionError(msg)
    return AccuracyLimits(
        kl_divergence if kl_divergence is not None else max(item.kl_divergence for item in stated),
        top1_agreement if top1_agreement is not None else min(item.top1_agreement for item in stated),
        perplexity_ratio if perplexity_ratio is not None else max(item.perplexity_ratio for item in stated),
        source="; ".join(dict.fromkeys(item.source for item in stated)),
    )


def _score(candidate: Engine, reference: Engine, prompts: Sequence[Prompt], sampling: SamplingParams) -> list[Scored]:
    encoded = [(prompt.id, prompt.encode(candidate)) for prompt in prompts]
    texts = [(name, Continuation(tokens[:1], tokens[1:])) for name, tokens in encoded if len(tokens) > 1]
    generations = candidate.generate([tokens for _, tokens in encoded], sampling)
    decoded = [(name, item.continuation) for (name, _), item in zip(encoded, generations, strict=True)]
    everything = texts + decoded
    by_reference = reference.score([item for _, item in everything])
    by_candidate = [*candidate.score([item for _, item in texts]), *(item.logprobs for item in generations)]
    timings = [*(None for _ in texts), *(item.timing for item in generations)]
    return [
        Scored.of(name, continuation, theirs, own, timing)
        for (name, continuation), theirs, own, timing in zip(
            everything, by_reference, by_candidate, timings, strict=True
        )
    ]


def _by_prompt(scored: Sequence[Scored], values: Callable[[Scored], Value]) -> list[Value]:
    """The values of each prompt's positions, prefill and decode together: one cluster per prompt."""
    groups: dict[str, list[Value]] = {}
    for item in scored:
        groups.setdefault(item.prompt_id, []).append(values(item))
    return [np.concatenate(group) for group in groups.values()]


def _metrics(scored: Sequence[Scored], limits: AccuracyLimits, confidence: float) -> dict[str, Metric]:
    texts = [item for item in scored if not item.decoded]
    if not texts:
        msg = "no prompt has a second token, so there is no text to score: give longer prompts"
        raise EmptySampleError(msg)
    kl, agrees = _by_prompt(scored, lambda item: item.kl), _by_prompt(scored, lambda item: item.agrees)
    differences = [logprob_difference(item.reference, item.candidate) for item in texts]
    sides = [item.reference for item in scored], [item.candidate for item in scored]
    nonfinite = int(sum((~item.candidate.is_finite).sum() for item in scored))
    judged = {
        "kl_divergence": (cluster_mean(kl, confidence), Tolerance(at_most=limits.kl_divergence), "nats/token"),
        "top1_agreement": (cluster_proportion(agrees, confidence), Tolerance(at_least=limits.top1_agreement), "share"),
        "perplexity_ratio": (
            perplexity_ratio(differences, confidence),
            Tolerance(at_most=limits.perplexity_ratio),
            "",
        ),
        "nonfinite": (Estimate.exact(nonfinite, sum(map(len, kl))), Tolerance(at_most=0), "positions"),
    }
    reported = {
        "flip_rate": (flip_rate(*sides, margin=FLIP_MARGIN), "share"),
        "logprob_difference": (cluster_mean(differences), "nats"),
        "kl_p99": (cluster_quantile(kl, 0.99), "nats"),
        "kl_p999": (cluster_quantile(kl, 0.999), "nats"),
        "kl_decode": (cluster_mean([item.kl for item in scored if item.decoded]), "nats/token"),
        "detectable_kl": (Estimate.exact(smallest_detectable_effect(kl), len(kl)), "nats/token"),
    }
    return {name: Metric(*parts) for name, parts in judged.items()} | {
        name: Metric(estimate, unit=unit) for name, (estimate, unit) in reported.items()
    }


def _costs(candidate: Engine, reference: Engine, scored: Sequence[Scored]) -> dict[str, Metric]:
    """What the weights hold, and how fast each prompt was decoded beside others: told, and judged nowhere."""
    own, theirs = candidate.footprint(), reference.footprint()
    metrics = {
        "weight_memory": Metric(Estimate.exact(own.weight_bytes), unit="bytes"),
        "weight_saving": Metric(Estimate.exact(theirs.weight_bytes / own.weight_bytes), unit="x"),
        "weight_saving_16_bit": Metric(Estimate.exact(2 * own.parameters / own.weight_bytes), unit="x"),
    }
    # The median: the first batch may compile, and on a busy machine any may wait.
    rates = [item.tokens_per_s for item in scored if item.tokens_per_s is not None]
    if rates:
        metrics["decode_tokens_per_s"] = Metric(Estimate.exact(float(np.median(rates)), len(rates)), unit="tokens/s")
    return metrics


def _paired_outcomes(outcomes: Sequence[tuple[bool, bool]], accuracy_loss: float) -> dict[str, Metric]:
    """Exact McNemar on scored items: the net share that the candidate loses, judged; its p-value, reported."""
    result = mcnemar(np.array([theirs for theirs, _ in outcomes]), np.array([own for _, own in outcomes]))
    gain = result.difference
    loss = Estimate(-gain.point, -gain.high, -gain.low, gain.n)
    return {
        "accuracy_loss": Metric(loss, Tolerance(at_most=accuracy_loss), "share"),
        "mcnemar_p_value": Metric(Estimate.exact(result.p_value, gain.n)),
    }


def _evidence(metrics: dict[str, Metric], limits: AccuracyLimits) -> str:
    kl, agreement, ratio = (metrics[name].estimate for name in ("kl_divergence", "top1_agreement", "perplexity_ratio"))
    return (
        f"KL {kl.point:.2g} [{kl.low:.2g}, {kl.high:.2g}] of {limits.kl_divergence:g}, "
        f"top-1 {agreement.point:.1%}, perplexity x{ratio.point:.4f}, "
        f"{metrics['weight_saving'].estimate.point:.2f}x smaller, {kl.n} prompts"
    )


def _diagnosis(
    candidate: Engine, scored: Sequence[Scored], limits: AccuracyLimits, weight_bytes: int
) -> tuple[str, ...]:
    ids, continuations = [item.prompt_id for item in scored], [item.continuation for item in scored]
    row, place = worst_place(ids, continuations, [item.kl for item in scored])
    path = "decode" if scored[row].decoded else "prefill"
    parts = [
        f"{name} {np.concatenate(values).mean():.3g}"
        for name, wanted in (("prefill", False), ("decode", True))
        if (values := [item.kl for item in scored if item.decoded is wanted])
    ]
    return (
        f"mean KL by path: {', '.join(parts)} nats; weights hold {format_bytes(weight_bytes)}",
        *([f"limits from: {limits.source}"] if limits.source else []),
        f"worst KL {scored[row].kl[place.index]:.3g} nats, on the {path} path:",
        *(f"  {line}" for line in place.describe(candidate, scored[row].reference, scored[row].candidate)),
    )
