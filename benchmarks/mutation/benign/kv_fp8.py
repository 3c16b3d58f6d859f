"""Honest float8 keys and values with one calibrated scale a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantizer import CacheQuantizer

__all__ = ["FP8Cache"]


@dataclass(frozen=True)
class FP8Cache(CacheQuantizer):
    """float8 KV cache, calibrated."""

    source: ClassVar[str] = "L float8 KV cache, calibrated"
    models: ClassVar[tuple[str, ...]] = ("tiny-llama", "tiny-qwen", "tiny-gemma")
