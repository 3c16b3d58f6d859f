"""The parity helpers of the package pytest-torch, called as its documentation shows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cases import PEERS

from pytest_llmopt.core.optimization import Promise

if TYPE_CHECKING:
    from cases import Case

__all__ = ["pytest_torch_parity"]

LEAST_AGREEMENT = 0.95
"""The documentation's own figure for a model in fewer bits."""


def pytest_torch_parity(case: Case) -> str | None:
    """What its assertion says: same outputs, or the same first choices for a lossy candidate."""
    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))
    from pytest_torch.parity import assert_generation_equal, assert_matches_reference, assert_models_agree

    own, theirs = case.model(case.candidate), case.model(case.reference)

    def select(output: object) -> object:
        return output.logits  # type: ignore[attr-defined]

    for inputs in case.batches:
        try:
            if Promise.ACCURATE in case.candidate.variant.promises:
                assert_models_agree(theirs, own, inputs, min_top1=LEAST_AGREEMENT, select=select)
            else:
                assert_matches_reference(own, theirs, inputs, select=select)
                assert_generation_equal(own, theirs, inputs, generate=case.generate)
        except AssertionError as error:
            return str(error).splitlines()[0]
    return None
