"""Too good is a failure too: every optimization of the candidate must really be in effect, and do no needless work.

A "quantized" model at the noise floor was not quantized; a draft that is never asked cannot be wrong. What must be true
of the loaded engine is for each optimization to say (`claims`); here it is only seen and judged.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._limits import shape_limits
from pytest_llmopt.checks._not_judged import unanswered
from pytest_llmopt.checks._optimized.checkpoint_claims import checkpoint_claims
from pytest_llmopt.checks._optimized.work import work_claims
from pytest_llmopt.checks._quantized.module_claims import module_claims
from pytest_llmopt.checks._quantized.probe import NEEDED
from pytest_llmopt.checks._sampling.acceptance import FALSE_ALARM, sampled_acceptance
from pytest_llmopt.checks._sampling.draft import open_draft, unopened_draft
from pytest_llmopt.checks._sampling.sample import ROUNDING_KL, Rates
from pytest_llmopt.checks._texts import context_room
from pytest_llmopt.checks._vocabulary import fails_outside_vocabulary, require_vocabulary
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.checkpoint import differences, refuse_unknown
from pytest_llmopt.core.claims import Claims, Use
from pytest_llmopt.core.inspection import Work
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.requests import CountGraphs, Generate, Inspect, RepeatCall, Score
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.values import Count, Seed
from pytest_llmopt.core.varied import SIXTEEN_BITS
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.core.weight_format import HasWeightFormat
from pytest_llmopt.statistics.divergence import kl_divergence, logprob_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.claims import Claim
    from pytest_llmopt.core.side import Side

__all__ = ["optimized"]

CONTEXT_TOKENS = 48
"""The end of each prompt that is used."""
FEWEST_SHARE = 0.5
"""Of the tokens asked for: where texts end before that they are decoded again and go on, so that drafts have room."""
UNTOLD = "its engine does not tell"
SILENT = "it does not say how one can see that: give it a method `claims(self, use)`"
NAMED = 3
"""Tensors that the evidence names."""


@checked
@fails_outside_vocabulary
def optimized(
    candidate: Side,
    reference: Side,
    prompts: object,
    *,
    num_prompts: Count = 3,
    max_new_tokens: Count = 16,
    declared: str | Sequence[str] = (),
    seed: Seed = 0,
) -> Verdict:
    """A verdict on whether every optimization of the candidate is really in effect, by what each says of itself.

    What they do for the same outputs is claimed of all of them: no more work than the reference, and no memory kept. So
    is what its checkpoint says beside the weights: end tokens, tokenizer, positions and so on, as the reference's says.
    What states no claims is not judged; INCONCLUSIVE where that is all there is, or where there is no optimization.

    Args:
        candidate: the optimized side; decodes the prompts three times, and twice more if that leaves memory behind. It
            also samples some tokens where it has a draft model.
        reference: the side without them; scores what was decoded and is inspected too.
        prompts: texts, token ids or a prompt set; the end of the first `num_prompts` is used.
        num_prompts: how many prompts to use.
        max_new_tokens: tokens to decode after each of them.
        declared: facts beside the weights that the candidate changes on purpose, such as `eos_token_ids`.
        seed: of the sampling, where there is a draft model.

    Raises:
        OptionError: a fact that is declared does not exist.
    """
    allowed = refuse_unknown(declared)
    candidate.require(Generate, Inspect)
    reference.require(Score, Inspect)
    use = _observe(candidate, reference, PromptSet.of(prompts).take(num_prompts), max_new_tokens, seed)
    not_judged = _not_judged(candidate, reference, use)
    claims: list[tuple[str, Claim]] = []
    silent = [item.short_name for item in candidate.variant.optimizations if not isinstance(item.options, Claims)]
    for item in candidate.variant.optimizations:
        if isinstance(item.options, Claims):
            own = (*item.options.claims(use), *module_claims(item.options, candidate, reference, use))
            claims += [(item.short_name, claim) for claim in own]
    if candidate.variant.optimizations:
        claims += [("work", claim) for claim in work_claims(use)]
        claims += [("checkpoint", claim) for claim in checkpoint_claims(use, candidate.variant, allowed)]
    metrics = {f"{name}.{claim.name}": claim.metric for name, claim in claims}
    untrue = [claim for _, claim in claims if claim.metric.status is not Status.PASS]
    evidence = _evidence(candidate, metrics) + _excused(use) + _declared(use, allowed)
    speaking = len(candidate.variant.optimizations) - len(silent)
    if silent and not speaking:
        # What is true of every optimization does not make a PASS of one that nobody has seen.
        metrics["optimizations_seen"] = Metric(Estimate(0, 0, math.inf, 0), Tolerance(at_least=1), "optimizations")
    not_judged |= {f"{name} in effect": SILENT for name in silent}
    lines = _diagnosis(use, untrue)
    return Verdict("optimized", metrics, evidence, lines, not_judged=not_judged)


def _not_judged(candidate: Side, reference: Side, use: Use) -> dict[str, str]:
    wanted = {"work of equal calls": RepeatCall, "recompilations": CountGraphs}
    found = unanswered(candidate, wanted) | unopened_draft(candidate, use.draft)
    if candidate.can(RepeatCall) and use.work.kept_bytes is None:
        found["memory kept by equal calls"] = UNTOLD
    for side, own in ((candidate, use.inspection), (reference, use.reference)):
        if any(isinstance(item.options, HasWeightFormat) for item in candidate.variant.optimizations):
            missing = [kind for kind in NEEDED if not side.can(kind)]
            found |= {f"weights of single projections ({side.role})": side.unanswered(kind) for kind in missing[:1]}
        unknown = {"passes of a call": own.passes is None, "facts beside the weights": not own.checkpoint}
        found |= {f"{name} ({side.role})": UNTOLD for name, missing in unknown.items() if missing}
    return found


def _observe(candidate: Side, reference: Side, prompts: PromptSet, max_new_tokens: int, seed: int) -> Use:
    room = context_room(candidate, CONTEXT_TOKENS, max_new_tokens)
    room = room if candidate.max_length is None else min(room, max(1, (candidate.max_length - max_new_tokens) // 2))
    contexts = [prompt.encode(candidate)[-room:] for prompt in prompts]
    # What is written twice is sure to offer looked-up drafts.
    contexts.append(
        (contexts[0] * 2)[:room] if len(contexts[0]) < room else (contexts[0][: max(1, room // 2)] * 2)[:room]
    )
    sampling = SamplingParams(max_new_tokens=max_new_tokens)
    generations = candidate.generate(contexts, sampling)
    if sum(len(item.logprobs) for item in generations) < FEWEST_SHARE * max_new_tokens * len(contexts):
        sampling = replace(sampling, ignore_eos=True)
        generations = candidate.generate(contexts, sampling)
    require_vocabulary([*(prompt.id for prompt in prompts), "twice the first prompt"], generations, reference)
    counts = candidate.can(CountGraphs)
    compiled = candidate.compilations() if counts else 0
    work = candidate.work(contexts, sampling) if candidate.can(RepeatCall) else Work()
    emitted = [item.continuation for item in generations]
    scored = reference.score(emitted)
    drift = [np.abs(logprob_difference(theirs, own.logprobs)) for theirs, own in zip(scored, generations, strict=True)]
    draft = open_draft(candidate)
    divergences = [kl_divergence(theirs, own.logprobs) for theirs, own in zip(scored, generations, strict=True)]
    recompilations = candidate.compilations() - compiled if counts else 0
    rates = Rates(
        FALSE_ALARM, ROUNDING_KL if candidate.dtype in SIXTEEN_BITS else 0.0, shape_limits(candidate).tie_margin
    )
    return Use(
        inspection=candidate.inspect(),
        reference=reference.inspect(),
        generations=generations,
        compilations=compiled,
        recompilations=recompilations,
        divergence=np.concatenate(divergences),
        dtype=candidate.dtype,
        work=work,
        draft=None if draft is None else draft.score(emitted),
        # The lead of one token over another moves by as much as both of them do.
        tie_margin=float(np.fmax(rates.tie_margin, 2 * np.concatenate(drift).max())),
        sampled=sampled_acceptance(candidate, reference, draft, contexts, rates, seed),
    )


def _evidence(candidate: Side, metrics: dict[str, Metric]) -> str:
    if not metrics:
        return "no claims to look at" if candidate.variant.optimizations else "no optimization to look for"
    true = sum(metric.status is Status.PASS for metric in metrics.values())
    # Most claims are that there is none of something: only what there is, or should be, is worth a line.
    shown = [
        f"{name.partition('.')[2]} {metric.estimate.point:.3g}"
        for name, metric in metrics.items()
        if metric.estimate.point or metric.status is not Status.PASS
    ]
    return f"{true} of {len(metrics)} claims true{': ' if shown else ''}{', '.join(shown)}"


def _excused(use: Use) -> str:
    """The tensors that the checkpoint or the model of the candidate lacks, and may lack by its architecture's word."""
    names = use.inspection.excused
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"; {len(names)} tensors left out as the architecture declares: {', '.join(names[:NAMED])}{more}"


def _declared(use: Use, declared: frozenset[str]) -> str:
    """The facts that the user declared and that do differ."""
    found = differences(use.reference.checkpoint, use.inspection.checkpoint)
    names = [item.fact for item in found if item.fact in declared]
    return f"; declared: {', '.join(names)}" if names else ""


def _diagnosis(use: Use, untrue: Sequence[Claim]) -> tuple[str, ...]:
    lines = [f"{claim.name}: {claim.otherwise}" for claim in untrue]
    inspection = use.inspection
    if not untrue:
        return tuple(lines)
    kinds: dict[str, int] = {}
    for item in inspection.body:
        kinds[item.kind] = kinds.get(item.kind, 0) + 1
    lines.append(f"projections: {', '.join(f'{count} {kind}' for kind, count in kinds.items()) or 'none'}")
    if inspection.cache is not None:
        layers = ", ".join(f"{count} {kind}" for kind, count in inspection.cache.layers.items())
        lines.append(f"cache: {inspection.cache.kind} of {layers}; {inspection.cache.fixed_layers} keep their length")
    calls = ", ".join(f"{name} {count} times" for name, count in (inspection.attention_calls or {}).items())
    lines.append(f"attention: {inspection.attention} is configured, called: {calls or 'none'}")
    return tuple(lines)
