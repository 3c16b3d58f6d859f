"""Studies of the tests against a noise floor: mean, worst position, change along the axis, tie margin, all together."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from study import LEVELS, Draw, Study, at_levels

from pytest_llmopt.statistics.change_point import change_point
from pytest_llmopt.statistics.drift import BENIGN_FACTOR, drift_tests, mean_drift, worst_position
from pytest_llmopt.statistics.noise import noise_floor, tie_margin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.logprobs import FloatArray
    from pytest_llmopt.statistics.noise import NoiseFloor

FLOOR_PROMPTS, FLOOR_TOKENS, FLOOR_CHANGES = 12, 32, 6
"""As `checks/_floor/` measures it."""
COPIES = 2
"""Permuted copies that a check averages its paired floor over."""
PROMPTS, TOKENS = 16, 64


def _lognormal(rng: np.random.Generator, prompts: int, tokens: int) -> FloatArray:
    """How sensitive each position of each prompt is: differs by prompt, and by position within it, without bound."""
    return rng.lognormal(0, 0.5, (prompts, 1)) * rng.lognormal(0, 1, (prompts, tokens))


def _bounded(rng: np.random.Generator, prompts: int, tokens: int) -> FloatArray:
    """The same, but no position is more sensitive than the logits are large."""
    return rng.uniform(0.1, 1, (prompts, tokens)) ** 2


SENSITIVITIES = {"bounded": _bounded, "log-normal": _lognormal}


def _noise(rng: np.random.Generator, sensitivity: FloatArray) -> list[FloatArray]:
    """KL-like differences of one benign change."""
    return list(sensitivity * rng.standard_normal(sensitivity.shape) ** 2)


def _copies(rng: np.random.Generator, sensitivity: FloatArray) -> list[FloatArray]:
    """The paired floor of a check: the mean of its permuted copies."""
    return list(np.mean([_noise(rng, sensitivity) for _ in range(COPIES)], axis=0))


def _measured_floor(rng: np.random.Generator, kind: str) -> NoiseFloor:
    """The floor of the root KL, from other prompts, each under several changes at the same positions."""
    sensitivity = SENSITIVITIES[kind](rng, FLOOR_PROMPTS, FLOOR_TOKENS)
    return noise_floor([np.sqrt(prompt) for _ in range(FLOOR_CHANGES) for prompt in _noise(rng, sensitivity)])


def _mean(draw: Draw, *, paired: bool, prompts: int) -> Sequence[bool]:
    sensitivity = _lognormal(draw.rng, prompts, TOKENS)
    floor = _copies(draw.rng, sensitivity) if paired else _noise(draw.rng, _lognormal(draw.rng, prompts, TOKENS))
    factor = BENIGN_FACTOR if draw.effect is None else draw.effect
    candidate = [factor * prompt for prompt in _noise(draw.rng, sensitivity)]
    return at_levels(mean_drift(candidate, floor, paired=paired).p_value)


def _worst(draw: Draw, *, kind: str) -> Sequence[bool]:
    floor = _measured_floor(draw.rng, kind)
    candidate = [np.sqrt(prompt) for prompt in _noise(draw.rng, SENSITIVITIES[kind](draw.rng, PROMPTS, TOKENS))]
    if draw.effect is not None:
        candidate[draw.rng.integers(PROMPTS)][draw.rng.integers(TOKENS)] = draw.effect * floor.scale
    return at_levels(worst_position(candidate, floor).p_value)


def _tie(draw: Draw, *, kind: str) -> Sequence[bool]:
    """Near ties' leads drift by normal amounts; does any of a check's positions leave the margin?"""
    scales = np.sqrt(SENSITIVITIES[kind](draw.rng, FLOOR_PROMPTS, 8))
    floor = noise_floor([scales.ravel() * draw.rng.standard_normal(scales.size) for _ in range(FLOOR_CHANGES)])
    scales = np.sqrt(SENSITIVITIES[kind](draw.rng, PROMPTS, TOKENS))
    worst = float(np.abs(scales * draw.rng.standard_normal(scales.shape)).max())
    worst = max(worst, (draw.effect or 0.0) * floor.scale)
    return [worst > tie_margin(floor, PROMPTS * TOKENS, rate.nominal) for rate in LEVELS]


def _change(draw: Draw, *, paired: bool) -> Sequence[bool]:
    prompts = 16
    starts = [int(start) for start in draw.rng.integers(5, 40, prompts)]
    sensitivity = _lognormal(draw.rng, prompts, TOKENS)
    other = sensitivity if paired else _lognormal(draw.rng, prompts, TOKENS)
    floor = _copies(draw.rng, other) if paired else _noise(draw.rng, other)
    candidate = _noise(draw.rng, sensitivity)
    if draw.effect is not None:
        candidate = _from(candidate, starts, 50, draw.effect)
    test = change_point(candidate, floor, paired=paired, starts=starts, floor_starts=starts, benign_factor=1.0)
    return at_levels(1.0 if test is None else test.p_value)


def _from(prompts: Sequence[FloatArray], starts: Sequence[int], position: int, factor: float) -> list[FloatArray]:
    return [
        np.where(np.arange(len(prompt)) + start >= position, factor * prompt, prompt)
        for prompt, start in zip(prompts, starts, strict=True)
    ]


def _together(draw: Draw, *, kind: str) -> Sequence[bool]:
    floor = _measured_floor(draw.rng, kind)
    starts = [int(start) for start in draw.rng.integers(5, 40, PROMPTS)]
    sensitivity = SENSITIVITIES[kind](draw.rng, PROMPTS, TOKENS)
    candidate = _noise(draw.rng, sensitivity)
    what, size = draw.effect or ("all", 1.0)
    if what == "all":
        candidate = [size * prompt for prompt in candidate]
    elif what == "from 50":
        candidate = _from(candidate, starts, 50, size)
    else:
        candidate[draw.rng.integers(PROMPTS)][draw.rng.integers(TOKENS)] = size * floor.scale**2
    tests = drift_tests(candidate, _copies(draw.rng, sensitivity), floor, paired=True, starts=starts, benign_factor=1.0)
    parts = [tests.mean, tests.worst, *([tests.change] if tests.change is not None else [])]
    return [any(dataclasses.replace(part, false_alarm=rate.nominal / 3).alarm for part in parts) for rate in LEVELS]


FACTORS = {f"mean x{factor}": factor for factor in (1.25, 1.5, 2.1, 3.0)}
PLACED = {f"one position at {size}x the floor": float(size) for size in (5, 10, 20, 40)}
STUDIES = [
    *(
        Study(
            f"mean_drift {'paired' if paired else 'Welch'}, {prompts} prompts",
            partial(_mean, paired=paired, prompts=prompts),
            effects=FACTORS,
            null_runs=10_000,
            chunk=2500,
            note="candidate exactly at the benign factor of 1.1, log-normal sensitivities, floor = mean of two copies",
        )
        for paired in (True, False)
        for prompts in (8, 24)
    ),
    *(
        Study(
            f"worst_position, {kind} sensitivities",
            partial(_worst, kind=kind),
            effects=PLACED,
            null_runs=4000,
            chunk=1000,
            note="floor of 12 other prompts x 32 positions under 6 changes; candidate 16 prompts x 64 positions",
        )
        for kind in SENSITIVITIES
    ),
    *(
        Study(
            f"tie_margin, {kind} sensitivities",
            partial(_tie, kind=kind),
            effects=PLACED,
            null_runs=4000,
            chunk=1000,
            note="floor of 96 near ties under 6 changes; 16 prompts x 64 positions, all of them near ties",
        )
        for kind in SENSITIVITIES
    ),
    *(
        Study(
            f"change_point {'paired' if paired else 'Welch'}",
            partial(_change, paired=paired),
            effects={f"x{factor} from position 50": factor for factor in (2.0, 4.0, 10.0, 100.0)},
            power_runs=50,
            note="16 prompts x 64 positions, no change (benign_factor=1), log-normal sensitivities",
        )
        for paired in (True, False)
    ),
    *(
        Study(
            f"drift_tests, {kind} sensitivities",
            partial(_together, kind=kind),
            effects={
                **{f"mean x{factor}": ("all", factor) for factor in (1.5, 2.1)},
                **{f"x{factor} from position 50": ("from 50", factor) for factor in (4.0, 10.0)},
                **{f"one position at {size}x the floor": ("one", float(size) ** 2) for size in (10, 20)},
            },
            power_runs=50,
            note="all three at a third of the rate, as a check runs them; candidate equals the floor (benign_factor=1)",
        )
        for kind in SENSITIVITIES
    ),
]
