"""Close to the original, at a stated price: quantized weights, quantized caches.

Two kinds of positions count, and each is judged by itself. The prompts' own text, scored by both sides in one forward
pass, shows what prefill does; tokens that the candidate samples show what its decode path does, which may run other
kernels and reads a quantized cache. A mean of both would hide what is wrong with one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np

from pytest_llmopt.checks._accuracy.sample import FEWEST_DECODED, FEWEST_OF_PROMPT, AccuracySample
from pytest_llmopt.checks._accuracy.scored import worst_prompt
from pytest_llmopt.checks._not_judged import unanswered, unseen_tail
from pytest_llmopt.checks._places import worst_place
from pytest_llmopt.checks._sequential import Design, Look, doublings
from pytest_llmopt.checks._vocabulary import fails_outside_vocabulary
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.requests import Generate, MeasureMemory, Score
from pytest_llmopt.core.requirements import format_bytes
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.text import brief
from pytest_llmopt.core.values import Count, Length, NonNegative, Positive, Seed, Share
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.statistics.mcnemar import mcnemar

if TYPE_CHECKING:
    from pytest_llmopt.checks._accuracy.scored import ScoredText
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.tokens import TokenIds

__all__ = ["accurate"]

CONFIDENCE = 0.95
"""That every judged interval holds, over all metrics and all looks at the sample."""
LONGEST_TOKENS = 2048
"""A longer prompt is used where its turn comes, and not before."""
LONGEST = 1
"""So many of the longest prompts are scored beside the first ones, and judged each by itself: what breaks at length
shows nowhere else. They enter no mean, as a text of 500 tokens would be a third of all positions."""
Right: TypeAlias = bool | Literal[0, 1]
Outcomes: TypeAlias = Annotated[Sequence[tuple[Right, Right]], Length(1)]


@checked
@fails_outside_vocabulary
def accurate(
    candidate: Side,
    reference: Side,
    prompts: object,
    *,
    kl_divergence: NonNegative | None = None,
    top1_agreement: Share | None = None,
    perplexity_ratio: Positive | None = None,
    max_new_tokens: Count = 32,
    num_prompts: Count = 32,
    max_prompts: Count = 192,
    outcomes: Outcomes | None = None,
    accuracy_loss: Share = 0.01,
    seed: Seed = 0,
) -> Verdict:
    """A verdict on whether the candidate is as accurate as promised, with intervals clustered by prompt.

    Starts with `num_prompts` and doubles them while the intervals cannot decide, up to `max_prompts`.

    Args:
        candidate: the optimized side.
        reference: the side that it must stay close to.
        prompts: texts, token ids or a prompt set. Equal ones are one cluster.
        kl_divergence: most mean KL(reference || candidate), in nats per token, on the prefill and on the decode path.
        top1_agreement: least share of positions where both prefer the same token.
        perplexity_ratio: most perplexity of the candidate over that of the reference, on the prompts' text.
        max_new_tokens: tokens that the candidate samples after each prompt.
        num_prompts: how many prompts to begin with; the longest of the others is judged beside them.
        max_prompts: how many to use at most, if `num_prompts` are not more.
        outcomes: scored items of a benchmark of your own: whether the reference and the candidate got each one right.
        accuracy_loss: the share of items that the candidate may lose, net; judged where `outcomes` are given.
        seed: seed of the sampling.

    Raises:
        OptionError: a limit is missing and the candidate's optimizations state none.
        UnsoundReferenceError: the reference is not finite somewhere; names the place.
    """
    candidate.require(Generate)
    reference.require(Score)
    limits = _limits(candidate, kl_divergence, top1_agreement, perplexity_ratio)
    given = PromptSet.of(prompts)
    room = LONGEST_TOKENS if candidate.max_length is None else candidate.max_length - max_new_tokens
    chosen, longest = _chosen(given, candidate, num_prompts, max_prompts, min(LONGEST_TOKENS, room))
    sampling = SamplingParams(max_new_tokens=max_new_tokens, temperature=1.0, seed=seed)
    sample = AccuracySample(candidate, reference, sampling, limits)
    sizes = doublings(num_prompts, len(chosen))
    sample.add_deep(longest)
    design = Design(1 - CONFIDENCE, len(sizes))
    metrics = dict(design.run([Look(partial(sample.grow, chosen, size)) for size in sizes], sample.judge).metrics)
    if outcomes is not None:
        metrics |= _paired_outcomes(outcomes, accuracy_loss)
    metrics |= _costs(candidate, reference, sample.scored)
    return _verdict(sample, metrics, sample.used + len(longest), len(given))


def _verdict(sample: AccuracySample, metrics: dict[str, Metric], prompts: int, available: int) -> Verdict:
    everything = sample.scored + sample.deep
    looked_at = _looked_at(everything, prompts)
    told = f"{looked_at['prompts']:,}" + (f" of {available:,}" if looked_at["prompts"] < available else "")
    lines = (*_too_little(metrics, looked_at), *_diagnosis(sample.candidate, everything, sample.limits, metrics))
    not_judged = {
        **unanswered(sample.candidate, {"prefill": Score, "memory": MeasureMemory}),
        **unanswered(sample.reference, {"memory saved": MeasureMemory}),
        **unseen_tail([item.tail for item in everything]),
        **unseen_tail([item.reference_tail for item in everything], "reference"),
    }
    return Verdict("accurate", metrics, f"{_evidence(metrics)}, {told} prompts", lines, looked_at, not_judged)


def _chosen(
    given: PromptSet, engine: Side, first: int, most: int, room: int
) -> tuple[list[tuple[str, TokenIds]], list[tuple[str, TokenIds]]]:
    """The prompts that the sample grows by, in their order, and the longest that fits of those left out at first."""
    encoded = [(prompt.id, prompt.encode(engine)) for prompt in given]
    fitting = [place for place in range(first, len(encoded)) if len(encoded[place][1]) <= room]
    left_out = sorted(fitting, key=lambda place: -len(encoded[place][1]))[:LONGEST]
    others = [item for place, item in enumerate(encoded) if place not in left_out]
    return others[: max(first, most)], [encoded[place] for place in left_out]


def _limits(
    candidate: Side, kl_divergence: float | None, top1_agreement: float | None, perplexity_ratio: float | None
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
    own = AccuracyLimits(
        kl_divergence if kl_divergence is not None else max(item.kl_divergence for item in stated),
        top1_agreement if top1_agreement is not None else min(item.top1_agreement for item in stated),
        perplexity_ratio if perplexity_ratio is not None else max(item.perplexity_ratio for item in stated),
        source="; ".join(dict.fromkeys(item.source for item in stated)),
    )
    factors = [item.worst_prompt_factor for item in stated]
    return replace(own, worst_prompt_factor=max(factors)) if factors else own


def _looked_at(scored: Sequence[ScoredText], prompts: int) -> dict[str, int]:
    return {
        "prompts": prompts,
        "different texts": len({item.text for item in scored}),
        "prefill positions": sum(len(item.kl) for item in scored if not item.decoded),
        "decoded positions": sum(len(item.kl) for item in scored if item.decoded),
        "deepest position": max(len(item.continuation) for item in scored) - 1,
    }


def _too_little(metrics: dict[str, Metric], looked_at: dict[str, int]) -> list[str]:
    """What the verdict would need more of."""
    lines = []
    decoded, copies = looked_at["decoded positions"], looked_at["prompts"] - looked_at["different texts"]
    if metrics["decoded_positions"].status is not Status.PASS:
        lines.append(
            f"only {decoded} positions were decoded, {FEWEST_DECODED} are the least: the texts end early or there are "
            "few. Give more prompts, prompts whose texts go on, or a larger max_new_tokens"
        )
    if metrics["kl_worst_prompt"].status is Status.INCONCLUSIVE:
        lines.append(f"no prompt has {FEWEST_OF_PROMPT} positions on one path: give longer prompts")
    if copies and Status.INCONCLUSIVE in {metric.status for metric in metrics.values()}:
        lines.append(
            f"{looked_at['prompts']} prompts have {looked_at['different texts']} different texts: copies tell nothing "
            "about other texts. Give different prompts"
        )
    return lines


def _costs(candidate: Side, reference: Side, scored: Sequence[ScoredText]) -> dict[str, Metric]:
    """What the weights hold, and how fast each prompt was decoded beside others. Reported, not judged."""
    metrics = {}
    if candidate.can(MeasureMemory):
        own = candidate.footprint()
        metrics["weight_memory"] = Metric(Estimate.exact(own.weight_bytes), unit="bytes")
        metrics["weight_saving_16_bit"] = Metric(Estimate.exact(2 * own.parameters / own.weight_bytes), unit="x")
        if reference.can(MeasureMemory):
            saving = reference.footprint().weight_bytes / own.weight_bytes
            metrics["weight_saving"] = Metric(Estimate.exact(saving), unit="x")
    # The median: the first batch may compile, and on a busy machine any may wait.
    rates = [item.tokens_per_s for item in scored if item.tokens_per_s is not None]
    if rates:
        metrics["decode_tokens_per_s"] = Metric(Estimate.exact(float(np.median(rates)), len(rates)), unit="tokens/s")
    return metrics


def _paired_outcomes(outcomes: Outcomes, accuracy_loss: float) -> dict[str, Metric]:
    """Exact McNemar on scored items: the net share that the candidate loses, judged; its p-value, reported."""
    result = mcnemar(np.array([theirs for theirs, _ in outcomes], bool), np.array([own for _, own in outcomes], bool))
    gain = result.difference
    loss = Estimate(-gain.point, -gain.high, -gain.low, gain.n, gain.confidence)
    return {
        "accuracy_loss": Metric(loss, Tolerance(at_most=accuracy_loss), "share"),
        "mcnemar_p_value": Metric(Estimate.exact(result.p_value, gain.n)),
    }


def _evidence(metrics: dict[str, Metric]) -> str:
    def told(name: str) -> str:
        return (
            f"{metrics[name].estimate.point:.2g} [{metrics[name].estimate.low:.2g}, {metrics[name].estimate.high:.2g}]"
        )

    def limit(name: str) -> str:
        tolerance = metrics[name].tolerance
        return f"of {math.inf if tolerance is None else tolerance.at_most:g}"

    parts = [
        f"KL prefill {told('kl_prefill')}" if "kl_prefill" in metrics else "KL",
        f"decode {told('kl_decode')} {limit('kl_decode')}",
        f"worst prompt {metrics['kl_worst_prompt'].estimate.point:.2g} {limit('kl_worst_prompt')}",
        f"top-1 {metrics['top1_agreement'].estimate.point:.1%}",
    ]
    if "perplexity_ratio" in metrics:
        parts.append(f"perplexity x{brief(metrics['perplexity_ratio'].estimate.point, '.4f')}")
    if "weight_saving" in metrics:
        parts.append(f"{metrics['weight_saving'].estimate.point:.2f}x smaller")
    return ", ".join(parts).replace("KL, decode", "KL decode")


def _diagnosis(
    candidate: Side, scored: Sequence[ScoredText], limits: AccuracyLimits, metrics: dict[str, Metric]
) -> tuple[str, ...]:
    ids, continuations = [item.prompt_id for item in scored], [item.continuation for item in scored]
    row, place = worst_place(ids, continuations, [item.kl for item in scored])
    path = {True: "decode", False: "prefill"}
    worst, where = worst_prompt(scored, FEWEST_OF_PROMPT)
    means = [(name, metrics[f"kl_{name}"].estimate.point) for name in ("prefill", "decode") if f"kl_{name}" in metrics]
    memory = metrics.get("weight_memory")
    held = "" if memory is None else f"weights hold {format_bytes(int(memory.estimate.point))}; "
    lines = [f"{held}mean KL {', '.join(f'on the {name} path {mean:.3g}' for name, mean in means)} nats"]
    if where is not None:
        lines.append(
            f"worst prompt: {where.prompt_id}, mean KL {worst.point:.3g} nats over {len(where.kl)} positions on the "
            f"{path[where.decoded]} path, up to position {len(where.continuation) - 1}"
        )
    lines += [f"limits from: {limits.source}"] if limits.source else []
    lines.append(f"worst KL {scored[row].kl[place.index]:.3g} nats, on the {path[scored[row].decoded]} path:")
    return (*lines, *(f"  {line}" for line in place.describe(candidate, scored[row].reference, scored[row].candidate)))
