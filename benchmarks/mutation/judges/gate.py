"""Our gate: a fixed set of checks by the kind of optimization, whatever the mutant; it stops at the first failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import LlmoptError
from pytest_llmopt.core.optimization import Promise
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.verdict import Status

if TYPE_CHECKING:
    from cases import Case

    from pytest_llmopt.core.variant import Variant

__all__ = ["gate"]

SAMPLED = (
    {"temperature": 0.7},
    {"temperature": 1.0, "top_k": 10},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.3, "min_p": 0.05},
)
"""Settings that sampling is tried under: the first as long as by default, the filters shorter. Filters that cut by mass
are tried away from temperature 1, since it is the law of the engine that the temperature comes before them."""
FILTERED_TOKENS = 512
SPECULATIVE = {"assisted", "prompt_lookup"}


def checks_for(variant: Variant) -> list[tuple[str, dict[str, Any]]]:
    """The checks of a candidate, the cheapest first, with their settings."""
    base = {item.short_name for item in variant.optimizations[:-1]}
    lossy = Promise.ACCURATE in variant.promises
    # What packed weights hold is seen without decoding a token; what decoding does, in the first greedy texts.
    first = ("optimized", "accurate") if lossy else ("equivalent", "optimized")
    chosen: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in (*first, "invariant")]
    if not lossy and (not base or base & SPECULATIVE):
        rounds = [{"max_tokens": FILTERED_TOKENS} if place else {} for place in range(len(SAMPLED))]
        chosen.append(("seeded", {}))
        chosen += [("lossless", {**own, **sampling}) for own, sampling in zip(rounds, SAMPLED, strict=True)]
    return chosen


def gate(case: Case) -> str | None:
    """The first check that does not pass, with the metrics that say so; a check that cannot run counts as failing."""
    registry = Registry("checks", "check")
    for name, options in checks_for(case.candidate.variant):
        seed = {"seed": case.seed} if name in {"accurate", "lossless", "seeded"} else {}
        try:
            verdict = registry.load(name)(case.candidate, case.reference, case.prompts, **options, **seed)
        except (LlmoptError, RuntimeError, ValueError, IndexError) as error:
            return f"{name}: {type(error).__name__}"
        case.note(name, getattr(verdict, "looked_at", {}))
        if verdict.status is not Status.PASS:
            failed = [
                f"{key} {metric.estimate.point:.2g} of {metric.tolerance.limit:.2g}"
                for key, metric in verdict.metrics.items()
                if metric.status is not None and metric.status is not Status.PASS and metric.tolerance is not None
            ]
            return f"{name}: {verdict.status.lower()}, {', '.join(failed[:2])}"
    return None
