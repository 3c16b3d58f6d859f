"""The forward of the loaded model, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import Applier

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _apply(options: Any, plan: LoadPlan) -> None:
    """Replace the forward of the loaded model."""
    plan.fixed_shapes = True
    plan.after_load.append(lambda model: _compile(options, model))


def _compile(options: Any, model: Any) -> None:
    import torch

    arguments: dict[str, Any] = {"fullgraph": options.fullgraph, "dynamic": options.dynamic, "backend": options.backend}
    if options.backend == "inductor":
        arguments["mode"] = options.mode
    model.forward = torch.compile(model.forward, **arguments)


applier = Applier(_apply)
