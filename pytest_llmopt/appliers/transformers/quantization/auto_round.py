"""The checkpoint that is produced, and the kernel that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier, load_produced

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _load(options: Any, plan: LoadPlan) -> None:
    """Choose the kernel."""
    if options.backend == "auto" or "quantization_config" in plan.load:
        return
    from transformers import AutoRoundConfig

    plan.set(
        "load", "quantization_config", AutoRoundConfig(bits=options.bits, backend=options.backend), by="auto_round"
    )


applier = Applier(load_produced(_load), _load)
