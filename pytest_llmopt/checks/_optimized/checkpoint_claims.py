"""What is claimed of every checkpoint: beside its weights it says what the reference's says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.checkpoint import FACTS, differences, refuse_unknown
from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance

if TYPE_CHECKING:
    from pytest_llmopt.core.claims import Use
    from pytest_llmopt.core.variant import Variant


def checkpoint_claims(use: Use, variant: Variant, declared: frozenset[str]) -> list[Claim]:
    """One claim for each fact that differs and is not declared, and one that counts them.

    None where an engine does not know what its checkpoint says.

    Args:
        use: with the inspection of both sides.
        variant: of the candidate; its optimizations may declare what they change.
        declared: facts that the user declares.

    Raises:
        OptionError: an optimization declares a fact that does not exist.
    """
    ours, theirs = use.inspection.checkpoint, use.reference.checkpoint
    shared = ours.keys() & theirs.keys()
    if not shared:
        return []
    for item in variant.optimizations:
        declared |= refuse_unknown(getattr(item.options, "declared", ()))
    untrue = [item for item in differences(theirs, ours) if item.fact not in declared]
    none = Tolerance(at_most=0)
    claims = [
        Claim(
            item.fact,
            Metric(Estimate.exact(1, 1), none, "differences"),
            f"{item}, which is what the reference says ({FACTS.get(item.fact, 'a fact of the checkpoint')}); mend the "
            f"checkpoint, or declare it: declared=({item.fact!r},)",
        )
        for item in untrue
    ]
    count = Metric(Estimate.exact(len(untrue), len(shared)), none, "facts")
    return [*claims, Claim("facts", count, "the checkpoint says something else beside its weights, see above")]
