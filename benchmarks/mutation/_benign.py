"""What the benign differences share: each is stacked on a permuted copy, so that another seed is another run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

from pytest_llmopt.engines._transformers.permuting import permute


@dataclass(frozen=True)
class OnPermutedCopy(Mutant):
    """The model with neurons and residual channels in another order, and a difference that must not matter."""

    category: ClassVar[str] = "attention"

    seed: int = 0
    """Of the order; 0 is an order like any other."""

    def for_transformers(self, plan: Any) -> None:
        """Permute, then change."""
        plan.after_load.append(lambda model: permute(model, self.seed))
        super().for_transformers(plan)

    def change(self, model: Any) -> None:
        """Nothing but the order."""


def linears(model: Any, *names: str) -> list[Any]:
    """The linear layers of a model, or those whose own name is given."""
    import torch

    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and (not names or name.rpartition(".")[2] in names)
    ]
