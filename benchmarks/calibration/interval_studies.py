"""Studies of intervals and paired tests: coverage, per side, of what `accurate` and budgets rest on."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from study import LEVELS, SIDES, Draw, Rate, Study, at_levels, sides

from pytest_llmopt.core.verdict import Estimate, Status, Tolerance, judge
from pytest_llmopt.statistics.intervals import (
    cluster_mean,
    cluster_proportion,
    cluster_quantile,
    confidence_per_look,
)
from pytest_llmopt.statistics.mcnemar import mcnemar
from pytest_llmopt.statistics.timing import paired_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import BoolArray, FloatArray

TOKENS = 64
SKEWED_SIGMA, BETWEEN = 1.5, 0.5
SKEWED_MEAN = math.exp((SKEWED_SIGMA**2 + BETWEEN**2) / 2)
LOOKS = (24, 48, 96, 192)
"""The sizes that `accurate` looks at by default."""
DECISIONS = (Rate(0.05, "either"), Rate(0.025, "PASS"), Rate(0.025, "FAIL"))
"""Of a value that lies exactly at its limit, where either decision is one too many."""


def _normal(rng: np.random.Generator, prompts: int) -> list[FloatArray]:
    """Signed differences with a mean of zero, correlated within a prompt."""
    return list(rng.normal(0.3 * rng.standard_normal((prompts, 1)), 1, (prompts, TOKENS)))


def _skewed(rng: np.random.Generator, prompts: int) -> list[FloatArray]:
    """KL-like values."""
    return list(rng.lognormal(0, SKEWED_SIGMA, (prompts, TOKENS)) * rng.lognormal(0, BETWEEN, (prompts, 1)))


def _agreement(rng: np.random.Generator, prompts: int, share: float, correlation: float) -> list[BoolArray]:
    spread = (1 - correlation) / correlation
    rates = rng.beta(share * spread, (1 - share) * spread, (prompts, 1))
    return list(rng.random((prompts, TOKENS)) < rates)


def _mean(draw: Draw, *, skewed: bool, prompts: int) -> Sequence[bool]:
    sample, truth = (_skewed(draw.rng, prompts), SKEWED_MEAN) if skewed else (_normal(draw.rng, prompts), 0.0)
    effect = 0.0 if draw.effect is None else draw.effect
    estimate = cluster_mean(sample)
    return sides(estimate.low, estimate.high, truth + effect * (truth or 1.0))


def _proportion(draw: Draw, *, share: float, correlation: float, prompts: int) -> Sequence[bool]:
    estimate = cluster_proportion(_agreement(draw.rng, prompts, share + (draw.effect or 0.0), correlation))
    return sides(estimate.low, estimate.high, share)


def _quantile(draw: Draw, *, level: float) -> Sequence[bool]:
    scale = draw.rng.lognormal(0, BETWEEN / 2, (24, 1))
    estimate = cluster_quantile(list(scale * draw.rng.exponential(size=(24, TOKENS))), level)
    return sides(estimate.low, estimate.high, _QUANTILES[level] * (draw.effect or 1.0))


def _mixed_quantile(level: float) -> float:
    """Of an exponential whose scale is log-normal: solved by bisection over Gauss and Hermite's nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    scales = np.exp(BETWEEN / 2 * nodes)
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        above = float((weights * np.exp(-middle / scales)).sum() / weights.sum())
        low, high = (middle, high) if above > 1 - level else (low, middle)
    return low


_QUANTILES = {level: _mixed_quantile(level) for level in (0.99, 0.999)}


def _ratio(draw: Draw, *, rounds: int, spikes: bool) -> Sequence[bool]:
    """Two sides timed in alternation on a machine with slow phases, and with disturbances of either side."""
    phase = draw.rng.lognormal(0, 0.3, rounds)
    seconds = phase * draw.rng.lognormal(0, 0.03, (2, rounds))
    if spikes:
        seconds *= np.where(draw.rng.random((2, rounds)) < 0.2, 2.0, 1.0)  # noqa: PLR2004 - one round in five
    estimate = paired_ratio((draw.effect or 1.0) * seconds[0], seconds[1])
    return sides(estimate.low, estimate.high, 1.0)


def _paired_items(draw: Draw, items: int) -> tuple[BoolArray, BoolArray]:
    kind = draw.rng.random(items)
    lost = 0.05 + (draw.effect or 0.0)
    return kind >= 0.05, (kind < 0.05) | (kind >= 0.05 + lost)  # noqa: PLR2004 - won: one item in twenty


def _mcnemar(draw: Draw, *, items: int) -> Sequence[bool]:
    return at_levels(mcnemar(*_paired_items(draw, items)).p_value)


def _accuracy_loss(draw: Draw, *, items: int) -> Sequence[bool]:
    difference = mcnemar(*_paired_items(draw, items)).difference
    return sides(difference.low, difference.high, 0.0)


def _decisions(estimates: Sequence[Estimate], tolerance: Tolerance) -> list[bool]:
    """What the first look that decides says, for `DECISIONS`."""
    decided = next((status for item in estimates if (status := judge(item, tolerance)) is not Status.INCONCLUSIVE), "")
    return [bool(decided), decided is Status.PASS, decided is Status.FAIL]


def growing(prompts: Sequence[FloatArray], limit: float) -> list[bool]:
    """`accurate`'s judgement of a mean KL divergence on a sample that grows until it decides."""
    confidence = confidence_per_look(0.95, len(LOOKS))
    return _decisions([cluster_mean(prompts[:size], confidence) for size in LOOKS], Tolerance(at_most=limit))


def _growing_mean(draw: Draw) -> Sequence[bool]:
    return growing(_skewed(draw.rng, LOOKS[-1]), SKEWED_MEAN / (draw.effect or 1.0))


def _growing_share(draw: Draw) -> Sequence[bool]:
    prompts = _agreement(draw.rng, LOOKS[-1], 0.97 + (draw.effect or 0.0), 0.05)
    confidence = confidence_per_look(0.95, len(LOOKS))
    estimates = [cluster_proportion(prompts[:size], confidence) for size in LOOKS]
    return _decisions(estimates, Tolerance(at_least=0.97))


STUDIES = [
    *(
        Study(
            f"cluster_mean, {prompts} {'skewed' if skewed else 'normal'} prompts",
            partial(_mean, skewed=skewed, prompts=prompts),
            SIDES,
            effects={f"truth moved by {shift:+g}": shift for shift in ((0.5, 1.0, -0.5) if skewed else (0.1, 0.3))},
            null_runs=4000,
            chunk=1000,
            note=f"log-normal, sigma {SKEWED_SIGMA} within and {BETWEEN} between prompts" if skewed else "correlated",
        )
        for skewed in (False, True)
        for prompts in (8, 24, 96)
    ),
    *(
        Study(
            f"cluster_proportion, share {share}, {prompts} prompts",
            partial(_proportion, share=share, correlation=correlation, prompts=prompts),
            SIDES,
            effects={f"share {shift:+g}": shift for shift in (-0.02, -0.05)},
            note=f"beta-binomial, correlation {correlation} within a prompt",
        )
        for share, correlation in ((0.97, 0.05), (0.99, 0.1), (0.9, 0.2))
        for prompts in (8, 24)
    ),
    *(
        Study(
            f"cluster_quantile, {level:.1%}",
            partial(_quantile, level=level),
            SIDES,
            effects={f"truth x{factor}": factor for factor in (0.7, 1.5)},
            note="24 prompts x 64, exponential with a scale of each prompt's own",
        )
        for level in (0.99, 0.999)
    ),
    *(
        Study(
            f"paired_ratio, {rounds} rounds{', spikes on both sides' * spikes}",
            partial(_ratio, rounds=rounds, spikes=spikes),
            SIDES,
            effects={f"ratio {ratio}": ratio for ratio in (0.99, 0.97, 0.9)},
            note="independent noise of 3 % a side, slow phases of 30 % that both share",
        )
        for rounds in (10, 30)
        for spikes in (False, True)
    ),
    *(
        Study(
            f"mcnemar, {items} items",
            partial(_mcnemar, items=items),
            LEVELS,
            effects={f"{loss:.0%} more items lost": loss for loss in (0.02, 0.05, 0.1)},
            note="5 % of the items are won and 5 % lost",
        )
        for items in (100, 1000)
    ),
    *(
        Study(
            f"mcnemar's interval, {items} items",
            partial(_accuracy_loss, items=items),
            SIDES,
            effects={f"{loss:.0%} more items lost": loss for loss in (0.02, 0.05)},
            note="Bonett and Price, which judges the accuracy lost",
        )
        for items in (100, 1000)
    ),
    Study(
        "accurate's growing sample, KL divergence",
        _growing_mean,
        DECISIONS,
        effects={f"KL x{factor} of its limit": factor for factor in (0.5, 0.8, 1.25, 2.0)},
        note="looks at 24, 48, 96 and 192 prompts, the true value exactly at the limit; skewed prompts as above",
    ),
    Study(
        "accurate's growing sample, top-1 agreement",
        _growing_share,
        DECISIONS,
        effects={f"agreement {shift:+g}": shift for shift in (0.01, -0.01, -0.02)},
        note="looks at 24, 48, 96 and 192 prompts, the true value exactly at the limit of 0.97",
    ),
]
