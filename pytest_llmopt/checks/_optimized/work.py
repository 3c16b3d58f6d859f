"""What is claimed of every optimization: no more work than the reference does for the same outputs, and nothing kept.

Exact counts, never times: a token that is fed needlessly is as wrong on an idle machine as on a busy one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.inspection import ForwardPass, Inspection


def work_claims(use: Use) -> Iterator[Claim]:
    """As far as both engines can tell: it can do what the reference can, without needless work or memory left behind.

    No token is processed twice, no logits are computed that nobody asked for.
    """
    own, reference = use.inspection, use.reference
    if own.lacks:
        lost = [f"{name}: {reason}" for name, reason in own.lacks.items() if name not in reference.lacks]
        yield Claim(
            "lost_abilities",
            Metric(Estimate.exact(len(lost)), Tolerance(at_most=0), "abilities"),
            f"it cannot do what the reference can: {'; '.join(lost)}",
        )
    if own.passes and reference.passes:
        tokens = max(0.0, tokens_fed(own) - tokens_fed(reference))
        logits = max(0, surplus_logits(own) - surplus_logits(reference))
        yield Claim(
            "redundant_tokens",
            Metric(Estimate.exact(tokens, len(own.passes)), Tolerance(at_most=0), "tokens"),
            f"{_fed(own.passes)} for an output that takes the reference {_fed(reference.passes)}: "
            "is the cache used, and every prompt prefilled once?",
        )
        yield Claim(
            "redundant_logits",
            Metric(Estimate.exact(logits, len(own.passes)), Tolerance(at_most=0), "positions"),
            f"the output embedding gives logits of {_counts([item.logits for item in own.passes])} positions a pass, "
            f"the reference's of {_counts([item.logits for item in reference.passes])}: is `logits_to_keep` handed on?",
        )
    if use.work.kept_bytes is not None:
        yield Claim(
            "kept_bytes",
            Metric(Estimate.exact(use.work.kept_bytes), Tolerance(at_most=0), "bytes/call"),
            f"every equal call leaves tensors alive, and so memory grows without end: {use.work.kept or 'of no name'}",
        )


def tokens_fed(inspection: Inspection) -> float:
    """Tokens processed for each prompt, but for the drafts that a pass may be fed beside the new one."""
    extra = inspection.extra_tokens
    fed = sum(item.rows * (item.tokens - min(extra, item.tokens - 1)) for item in inspection.passes or ())
    return fed / inspection.rows


def surplus_logits(inspection: Inspection) -> int:
    """Positions that logits were computed for beyond the last of a pass, and beyond the drafts that it verifies."""
    return sum(max(0, item.logits - 1 - inspection.extra_tokens) for item in inspection.passes or ())


def _fed(passes: Sequence[ForwardPass]) -> str:
    return f"{len(passes)} passes of {_counts([item.tokens for item in passes])} tokens"


def _counts(values: Sequence[int]) -> str:
    shown = 6
    return " + ".join(map(str, values[:shown])) + (" + ..." if len(values) > shown else "")
