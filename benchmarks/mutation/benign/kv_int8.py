"""Honest int8 keys and values with a scale for each token and head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantizer import CacheQuantizer

__all__ = ["Int8Cache"]


@dataclass(frozen=True)
class Int8Cache(CacheQuantizer):
    """int8 KV cache."""

    source: ClassVar[str] = "L int8 KV cache"
    models: ClassVar[tuple[str, ...]] = ("tiny-llama", "tiny-qwen", "tiny-gemma")

    stored_as: str = "int8"
