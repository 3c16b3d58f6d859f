"""What other arithmetic, other shapes and other orders of summation may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmopt.core.values import NonNegative, fit_fields

if TYPE_CHECKING:
    from pytest_llmopt.core.side import Side


@dataclass(frozen=True)
class Limits:
    """What other arithmetic may change beyond the noise floor, in nats."""

    tie_margin: NonNegative
    """Most regret: what the reference's best token may be ahead of the one that was emitted."""
    mean_kl: NonNegative
    worst_kl: NonNegative

    def __post_init__(self) -> None:
        """Refuse limits that are negative or not finite: NaN tolerates nothing, infinity everything."""
        fit_fields(self)


LIMITS = {
    "float64": Limits(0.02, 3e-6, 1.5e-4),
    "float32": Limits(0.02, 3e-6, 1.5e-4),
    "float16": Limits(0.05, 1e-5, 5e-3),
    "bfloat16": Limits(0.10, 5e-5, 2e-2),
}
"""By dtype. A TF32 matrix product (on the zoo a mean KL of 1.3e-7, at worst 8e-6; elsewhere 1.5e-6 and 5e-5) must pass
in float32; the smallest real bugs known (a softmax scale 2 % off: mean 1e-4, worst 5e-3; in one layer of a model whose
scores are capped: 3e-6 and 2.3e-4) must not. KL limits are on what exceeds the floor, which in 16 bits is
itself about 1e-4; the tie margin is absolute: in 16 bits rounding alone moves log-probabilities by 0.1."""

COARSEST = "bfloat16"

WITHOUT_FLOOR = LIMITS | {
    "float64": Limits(0.02, 1e-5, 5e-4),
    "float32": Limits(0.02, 1e-5, 5e-4),
    "float16": Limits(0.05, 5e-5, 5e-3),
    "bfloat16": Limits(0.10, 5e-4, 2e-2),
    "int4": Limits(0.10, 0.05, 2.0),
    "int2": Limits(0.10, 0.60, 10.0),
}
"""By dtype, where no noise floor is measured: they have to hold the rounding itself.

Of a cache in few bits, other shapes round other tokens, so that two runs differ by what the bits cost: in 8 bits a mean
KL of 5e-5, at worst 6e-4; in 4 bits 0.02 and 0.3. Their means are those that `accurate` allows."""

ROUNDED_LIKE = dict.fromkeys(("int8", "fp8", "float8", "float8_e4m3fn", "nvfp4"), "bfloat16") | dict.fromkeys(
    ("int3", "int1"), "int2"
)
"""Activations that are rounded to these while the model runs turn a rounding of 1e-7 into a step of their grid wherever
one lies in the middle of two steps: bitsandbytes' int8 in float32 moves by a mean KL of 5e-5, at worst 4e-4."""


def limits_for(candidate: Side, reference: Side) -> Limits:
    """The limits of the coarser of the two dtypes."""
    order = list(LIMITS)
    return LIMITS[order[max(order.index(known_dtype(side)) for side in (candidate, reference))]]


def known_dtype(engine: Side) -> str:
    """The dtype that an engine computes in; the coarsest that is known where it has one of its own."""
    return engine.dtype if engine.dtype in LIMITS else COARSEST


def shape_limits(candidate: Side) -> Limits:
    """The limits of its dtype, or of the coarser one that its optimizations round activations to (`activations`)."""
    stated = [getattr(item.options, "activations", None) for item in candidate.variant.optimizations]
    dtypes = [known_dtype(candidate), *(ROUNDED_LIKE.get(dtype, dtype) for dtype in stated if dtype)]
    known = [WITHOUT_FLOOR[dtype] for dtype in dtypes if dtype in WITHOUT_FLOOR]
    return max(known, key=lambda limits: limits.mean_kl)
