"""The checkpoint that is produced, with a look at its file and at the weights in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier, load_produced
from pytest_llmopt.optimizations.quantization._compressing import on_grid
from pytest_llmopt.optimizations.quantization._unpacked import ON_GRID, STORED, stored_bytes_per_weight

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _load(_options: Any, plan: LoadPlan) -> None:
    """Look at the file, and at the weights in memory."""
    weights = plan.weights or plan.model
    plan.measure[STORED] = lambda model: stored_bytes_per_weight(model, weights)
    plan.measure[ON_GRID] = on_grid


applier = Applier(load_produced(_load), _load)
