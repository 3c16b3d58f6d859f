"""What other arithmetic, other shapes and other orders of summation may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import Engine


@dataclass(frozen=True)
class Limits:
    """What other arithmetic may change beyond the noise floor, in nats."""

    tie_margin: float
    """Most regret: what the reference's best token may be ahead of the one that was emitted."""
    mean_kl: float
    worst_kl: float


LIMITS = {
    "float64": Limits(0.02, 1e-5, 5e-4),
    "float32": Limits(0.02, 1e-5, 5e-4),
    "float16": Limits(0.05, 1e-5, 5e-3),
    "bfloat16": Limits(0.10, 5e-5, 2e-2),
}
"""By dtype. A TF32 matrix product (mean KL 1.5e-6, worst 5e-5 in float32) must pass; the smallest real bugs known
(a softmax scale 2 % off: mean 1e-4, worst 5e-3) must not. KL limits are on what exceeds the floor, which in 16 bits is
itself about 1e-4; the tie margin is absolute: in 16 bits rounding alone moves log-probabilities by 0.1."""

WITHOUT_FLOOR = LIMITS | {"float16": Limits(0.05, 5e-5, 5e-3), "bfloat16": Limits(0.10, 5e-4, 2e-2)}
"""By dtype, where no noise floor is measured: in 16 bits they have to hold the rounding itself."""

ROUNDED_LIKE = dict.fromkeys(("int8", "int4", "fp8", "float8", "float8_e4m3fn", "nvfp4"), "bfloat16")
"""Activations that are rounded to these while the model runs turn a rounding of 1e-7 into a step of their grid wherever
one lies in the middle of two steps: bitsandbytes' int8 in float32 moves by a mean KL of 5e-5, at worst 4e-4."""


def limits_for(candidate: Engine, reference: Engine) -> Limits:
    """The limits of the coarser of the two dtypes."""
    order = list(LIMITS)
    return LIMITS[order[max(order.index(candidate.dtype), order.index(reference.dtype))]]


def shape_limits(candidate: Engine) -> Limits:
    """The limits of its dtype, or of the coarser one that its optimizations round activations to (`activations`)."""
    stated = [getattr(item.options, "activations", None) for item in candidate.variant.optimizations]
    dtypes = [candidate.dtype, *(ROUNDED_LIKE.get(dtype, dtype) for dtype in stated if dtype)]
    return max((WITHOUT_FLOOR[dtype] for dtype in dtypes), key=lambda limits: limits.mean_kl)
