"""The whole forward pass through `torch.compile`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_llmopt.core.optimization import LoadPlan, Optimization, Promise, one_of
from pytest_llmopt.optimizations.decoding._claims import MODES, compiled_claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.core.inspection import Claim, Use

__all__ = ["Compiled"]


@dataclass(frozen=True)
class Compiled(Optimization):
    """`model.forward = torch.compile(model.forward, ...)`: prefill and decode steps alike."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT

    mode: str = "default"
    fullgraph: bool = False
    dynamic: bool | None = None
    """None lets the compiler start static and generalize at the first change of shape."""
    backend: str = "inductor"

    def __post_init__(self) -> None:
        """Refuse modes that `torch.compile` does not have."""
        one_of("mode", self.mode, MODES)

    def claims(self, use: Use) -> Sequence[Claim]:
        """Graphs were compiled, and none when warm."""
        return compiled_claims(use)

    def for_transformers(self, plan: LoadPlan) -> None:
        """Replace the forward of the loaded model."""
        plan.fixed_shapes = True
        plan.after_load.append(self._compile)

    def _compile(self, model: Any) -> None:
        import torch

        arguments: dict[str, Any] = {"fullgraph": self.fullgraph, "dynamic": self.dynamic, "backend": self.backend}
        if self.backend == "inductor":
            arguments["mode"] = self.mode
        model.forward = torch.compile(model.forward, **arguments)
