"""Honest 4-bit weights with int8 activations, rounded for each token by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantizer import ActivationQuantizer

__all__ = ["W4A8"]


@dataclass(frozen=True)
class W4A8(ActivationQuantizer):
    """int4 weights with int8 activations."""

    source: ClassVar[str] = "L int4 weights with int8 activations"
    models: ClassVar[tuple[str, ...]] = ("tiny-llama", "tiny-qwen", "tiny-gemma")
