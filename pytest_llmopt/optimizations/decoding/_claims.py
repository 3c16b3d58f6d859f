"""What compiled and speculative decoding claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.inspection import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from pytest_llmopt.core.inspection import Use


def compiled_claims(use: Use, *, prefill: bool = True) -> list[Claim]:
    """Graphs were compiled, none when everything was warm, and then every pass ran in one.

    Args:
        use: what was seen of the candidate.
        prefill: whether prefill is compiled too; otherwise each batch has one eager pass.
    """
    eager = use.work.eager_passes
    prefills = 0 if prefill else use.work.batches
    return [
        Claim(
            "graphs",
            Metric(Estimate.exact(use.compilations), Tolerance(at_least=1)),
            "nothing was compiled: every step ran eagerly",
        ),
        Claim(
            "recompilations",
            Metric(Estimate.exact(use.recompilations), Tolerance(at_most=0), "graphs when warm"),
            "an equal call after the first compiled again",
        ),
    ] + (
        []
        if eager is None
        else [
            Claim(
                "eager_passes",
                Metric(Estimate.exact(eager), Tolerance(at_most=prefills), "passes when warm"),
                "the interpreter ran every layer of these forward passes: no graph fits their shapes, or the compiler "
                "gave up at its limit of graphs (TORCH_LOGS=recompiles names the reason)",
            )
        ]
    )


def drafted_claim(use: Use) -> Claim:
    """Drafts were proposed."""
    tokens = sum(len(item.logprobs) for item in use.generations)
    return Claim(
        "drafted_tokens",
        Metric(Estimate.exact(use.drafted_tokens, tokens), Tolerance(at_least=1), "tokens"),
        "no draft was ever proposed: every token took a target pass of its own",
    )


def accepted_claim(use: Use) -> Claim:
    """Drafts were accepted."""
    return Claim(
        "accepted_tokens",
        Metric(Estimate.exact(use.accepted_tokens, max(1, use.drafted_tokens)), Tolerance(at_least=1), "tokens"),
        f"none of {use.drafted_tokens} proposed tokens was accepted: the draft only costs time",
    )
