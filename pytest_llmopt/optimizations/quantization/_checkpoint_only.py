"""Methods whose checkpoints are loaded, and quantizing is the business of their own tools."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmopt.optimizations.quantization._quantizer import Quantizer


@dataclass(frozen=True)
class CheckpointOnlyQuantizer(Quantizer):
    """Of use with `checkpoint=` alone."""
