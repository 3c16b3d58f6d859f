"""What other shapes and other orders of summation may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.checks.equivalent import LIMITS, Limits

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import Engine

WITHOUT_FLOOR = LIMITS | {"float16": Limits(0.05, 5e-5, 5e-3), "bfloat16": Limits(0.10, 5e-4, 2e-2)}
"""By dtype, where no noise floor is measured: in 16 bits they have to hold the rounding itself."""

ROUNDED_LIKE = dict.fromkeys(("int8", "int4", "fp8", "float8", "float8_e4m3fn", "nvfp4"), "bfloat16")
"""Activations that are rounded to these while the model runs turn a rounding of 1e-7 into a step of their grid wherever
one lies in the middle of two steps: bitsandbytes' int8 in float32 moves by a mean KL of 5e-5, at worst 4e-4."""


def shape_limits(candidate: Engine) -> Limits:
    """The limits of its dtype, or of the coarser one that its optimizations round activations to (`activations`)."""
    stated = [getattr(item.options, "activations", None) for item in candidate.variant.optimizations]
    dtypes = [candidate.dtype, *(ROUNDED_LIKE.get(dtype, dtype) for dtype in stated if dtype)]
    return max((WITHOUT_FLOOR[dtype] for dtype in dtypes), key=lambda limits: limits.mean_kl)
