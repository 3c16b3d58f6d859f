"""Our gate: a fixed set of checks by the kind of optimization, whatever the mutant; it stops at the first failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.checks._default import default_gate
from pytest_llmopt.core.errors import LlmoptError
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.verdict import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cases import Case

    from pytest_llmopt.core.variant import Variant

__all__ = ["gate"]


def checks_for(variant: Variant) -> list[tuple[str, Mapping[str, Any]]]:
    """The checks of a candidate with their settings: the package's own default gate, and nothing else."""
    return [(step.check, step.settings) for step in default_gate(variant)]


def gate(case: Case) -> str | None:
    """The first check that does not pass, with the metrics that say so; a check that cannot run counts as failing."""
    registry = Registry("checks", "check")
    for name, options in checks_for(case.candidate.variant):
        seed = {"seed": case.seed} if name in {"accurate", "lossless", "seeded"} else {}
        try:
            sides = {"candidate": case.candidate, "reference": case.reference, "prompts": case.prompts}
            verdict = registry.load(name)(**sides, **options, **seed)
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
