"""Perplexity on given text may be 5 % off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cases import Case

__all__ = ["perplexity"]

TOLERANCE = 0.05


def perplexity(case: Case) -> str | None:
    """The ratio, where it is further from 1."""
    own, theirs = case.scored
    lost = [b.token_logprobs - a.token_logprobs for a, b in zip(own, theirs, strict=True)]
    ratio = float(np.exp(np.mean(np.concatenate(lost))))
    return None if abs(ratio - 1) <= TOLERANCE else f"perplexity x{ratio:.3f}"
