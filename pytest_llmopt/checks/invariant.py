"""Metamorphic relations: change what must not matter, and ask whether it does. No reference is needed.

A bug that both sides share is invisible here; a bug in state, batches, padding, lengths or causality shows without any
reference, so also on an engine that nothing can be compared with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.checks._invariance.abilities import lost
from pytest_llmopt.checks._invariance.relations import broken, run, subject_of
from pytest_llmopt.checks._limits import Limits, shape_limits
from pytest_llmopt.checks._vocabulary import fails_outside_vocabulary
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requests import ForceDecode, Generate
from pytest_llmopt.core.values import Count, Names
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmopt.checks._invariance.relations import Outcome
    from pytest_llmopt.core.side import Side

__all__ = ["invariant"]

FIRST = "repeat"
"""Tried and named before the others: where a second call differs, every other relation shows it too."""


@checked
@fails_outside_vocabulary
def invariant(
    candidate: Side,
    prompts: object,
    *,
    reference: Side | None = None,
    relations: Names | None = None,
    num_prompts: Count = 3,
    max_new_tokens: Count = 8,
    limits: Limits | None = None,
) -> Verdict:
    """A verdict on whether what must not matter does not matter to the candidate.

    Each relation decodes or scores the same tokens again with one thing changed, and compares at equal prefixes. A
    relation that says nothing about this engine is listed as not applicable; it is not counted as passed.

    Args:
        candidate: the side that is questioned.
        prompts: texts, token ids or a prompt set; the first `num_prompts` are decoded, more make up a running text.
        reference: asked only where the candidate cannot do something, whether it could: what no model of the
            architecture can do is left out, what an optimization broke is a failure.
        relations: names of relations; None tries all that are registered.
        num_prompts: how many prompts to decode.
        max_new_tokens: tokens to decode after each of them.
        limits: what other shapes may change; the default belongs to the dtype, or to the one that activations are
            rounded to. Its tie margin is not used.

    Raises:
        UnknownNameError: a relation has another name.
    """
    candidate.require(Generate, ForceDecode)
    registry = Registry("relations", "relation")
    names = registry.names() if relations is None else tuple(relations)
    chosen = {name: registry.load(name) for name in sorted(names, key=lambda name: (name != FIRST, name))}
    limits = limits or shape_limits(candidate)
    subject = subject_of(
        candidate,
        prompts,
        num_prompts=num_prompts,
        max_new_tokens=max_new_tokens,
        asked=relations is not None,
        reference=reference,
    )
    outcomes = [run(name, relation, subject, reference) for name, relation in chosen.items()]
    return _judge(candidate, outcomes, lost(candidate, reference), limits)


def _judge(candidate: Side, outcomes: Sequence[Outcome], missing: Mapping[str, str], limits: Limits) -> Verdict:
    tried = [item for item in outcomes if item.pairs]
    metrics = {f"worst_kl.{item.name}": _worst(item, limits.worst_kl) for item in tried}
    if missing:
        metrics["lost_abilities"] = Metric(Estimate.exact(len(missing)), Tolerance(at_most=0), "abilities")
    metrics |= {
        f"broken.{item.name}": Metric(Estimate.exact(1, 1), Tolerance(at_most=0), "relations")
        for item in outcomes
        if item.broken
    }
    if tried:
        means = [float(np.mean(item.kl)) for item in tried]
        found = [pair for item in tried for pair in item.pairs]
        positions = sum(len(pair.kl) for pair in found)
        drift = float(np.max(np.abs(np.concatenate([pair.drift for pair in found]))))
        nonfinite = sum(pair.nonfinite for pair in found)
        metrics |= {
            "mean_kl": Metric(
                Estimate.exact(float(np.max(means)), len(means)), Tolerance(at_most=limits.mean_kl), "nats/token"
            ),
            "nonfinite": Metric(Estimate.exact(nonfinite, positions), Tolerance(at_most=0), "positions"),
            "worst_drift": Metric(Estimate.exact(drift, positions), unit="nats"),
        }
    lines = [f"it cannot do what the reference can: {name}: {reason}" for name, reason in missing.items()]
    diagnosis = (*lines, *_diagnosis(candidate, outcomes, limits))
    not_judged = {item.name: item.unanswered for item in outcomes if item.unanswered}
    return Verdict("invariant", metrics, _evidence(outcomes, limits), diagnosis, not_judged=not_judged)


def _worst(outcome: Outcome, limit: float) -> Metric:
    return Metric(Estimate.exact(float(np.max(outcome.kl)), len(outcome.kl)), Tolerance(at_most=limit), "nats")


def _evidence(outcomes: Sequence[Outcome], limits: Limits) -> str:
    tried = [item for item in outcomes if item.pairs]
    left = [item.name for item in outcomes if item.not_applicable]
    parts = []
    if tried:
        worst = max(tried, key=lambda item: np.nan_to_num(np.max(item.kl), nan=np.inf))
        pairs = sum(len(item.pairs) for item in tried)
        parts.append(f"{len(tried)} relations, {pairs} changes")
        parts.append(f"worst KL {np.max(worst.kl):.1e} of {limits.worst_kl:.0e} ({worst.name})")
    if left:
        parts.append(f"not applicable: {' '.join(left)}")
    return ", ".join(parts)


def _diagnosis(candidate: Side, outcomes: Sequence[Outcome], limits: Limits) -> tuple[str, ...]:
    lines = []
    failed = broken(outcomes, limits)
    for item in outcomes:
        if item.broken:
            lines += [f"{item.name} is broken: {item.promise}", f"  {item.broken}"]
    for rank, (outcome, judged) in enumerate(failed):
        many = f"{sum(pair.breaks(limits) for pair in outcome.pairs)} of {len(outcome.pairs)}"
        lines += [
            f"{outcome.name} is broken: {outcome.promise}",
            f"  smallest change that breaks it: {judged.pair.change} ({many} comparisons break)",
        ]
        if rank == 0:
            index = judged.place.index
            lines.append(f"  KL {judged.kl[index]:.3g} nats (reference: before the change, candidate: after it)")
            described = judged.place.describe(candidate, judged.pair.base, judged.pair.changed)
            lines += [f"  {line}" for line in described]
    wrong = {one.name for one, _ in failed} | {item.name for item in outcomes if item.broken}
    holding = [item.name for item in outcomes if item.pairs and item.name not in wrong]
    if failed and failed[0][0].name == FIRST and len(failed) > 1:
        lines.append(f"begin with {FIRST}: what a call leaves behind shows in every later one")
    if holding:
        lines.append(f"holding: {', '.join(holding)}")
    lines += [f"not applicable: {item.name}: {item.not_applicable}" for item in outcomes if item.not_applicable]
    return tuple(lines)
