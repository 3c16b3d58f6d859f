"""The mean KL divergence on given text must stay below a constant, as in comparisons of quantized formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.statistics.divergence import kl_divergence

if TYPE_CHECKING:
    from cases import Case

__all__ = ["mean_kld"]

LIMIT = 0.01
"""In nats per token: what good 4-bit formats of a large model reach."""


def mean_kld(case: Case) -> str | None:
    """The mean, where it is larger."""
    own, theirs = case.scored
    mean = float(np.concatenate([kl_divergence(b, a) for a, b in zip(own, theirs, strict=True)]).mean())
    return None if mean <= LIMIT else f"mean KL {mean:.2g}"
