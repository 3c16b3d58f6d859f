"""VPTQ: vectors of weights as entries of code books, residuals by a second one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.requirements import Cuda, Requirement
from pytest_llmopt.core.values import LARGEST, Count, Range
from pytest_llmopt.optimizations.quantization._checkpoint_only import CheckpointOnlyQuantizer
from pytest_llmopt.optimizations.quantization._integrated import needs

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Vptq"]


@dataclass(frozen=True)
class Vptq(CheckpointOnlyQuantizer):
    """Linear layers of 1 to 4 bits; checkpoints only."""

    vector_len: Count = 8
    num_centroids: Count = 65536
    num_res_centroids: Annotated[int, Range(-1, LARGEST)] = -1
    """Of the residual's code book; -1 for none."""

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The library and a GPU, as Transformers asks."""
        return (
            needs("vptq>=0.0.4", "vptq"),
            Cuda(),
        )

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """About 2 bits."""
        return AccuracyLimits(0.40, 0.65, 1.35, "VPTQ, arXiv:2409.17066: Llama 2 7B at 2.02 bits 6.13 for 5.12")

    @property
    def bytes_per_weight(self) -> float:
        """The codes; code books and norms weigh little on large layers."""
        return (math.log2(self.num_centroids) + math.log2(max(1, self.num_res_centroids))) / self.vector_len / 8

    @classmethod
    def described_by(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """By the first layer: each list holds a value for outliers, then one for the rest."""
        shared = config.get("shared_layer_config") or {}
        layer: dict[str, Any] = next(iter((config.get("config_for_layers") or shared).values()), {})
        keys = {"vector_len": "vector_lens", "num_centroids": "num_centroids", "num_res_centroids": "num_res_centroids"}
        return cls(**{name: layer[key][-1] for name, key in keys.items() if key in layer}, **options)
