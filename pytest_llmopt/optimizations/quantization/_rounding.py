"""What rounding to the nearest value costs, without calibration: limits that several methods share."""

from __future__ import annotations

from pytest_llmopt.core.optimization import AccuracyLimits

LIMITS = (
    (8, AccuracyLimits(0.002, 0.97, 1.01, "k-bit scaling laws, arXiv:2212.09720: 8-bit weights near 16")),
    (6, AccuracyLimits(0.02, 0.93, 1.02, "k-bit scaling laws, arXiv:2212.09720: 6-bit weights near 16")),
    (5, AccuracyLimits(0.03, 0.90, 1.03, "llama.cpp, tools/perplexity: KL 0.022, perplexity x1.021 on Llama 3 8B")),
    (4, AccuracyLimits(0.10, 0.86, 1.10, "llama.cpp, tools/perplexity: KL 0.072, perplexity x1.075 on Llama 3 8B")),
    (3, AccuracyLimits(0.30, 0.70, 1.30, "AWQ, arXiv:2306.00978, table 4: rounding to 3 bits in groups of 128")),
    (2, AccuracyLimits(1.00, 0.40, 2.50, "k-bit scaling laws, arXiv:2212.09720: 3 bits are unstable, fewer not tried")),
)


def rounding_limits(bits: float) -> AccuracyLimits:
    """What integers of so many bits may cost; one bit is held to what two may cost, and seldom keeps it."""
    return next((limits for least, limits in LIMITS if bits >= least), LIMITS[-1][1])
