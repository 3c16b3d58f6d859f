"""The same function in another order of summation: neurons and residual channels permuted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_llmopt.core.errors import RequirementMissingError
from pytest_llmopt.core.optimization import LoadPlan, Optimization, Promise

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Permuted"]

READS = frozenset({"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "lm_head"})
"""Linear layers whose input is the residual stream."""
WRITES = frozenset({"o_proj", "down_proj"})
"""Linear layers whose output goes into it."""


@dataclass(frozen=True)
class Permuted(Optimization):
    """A copy that computes the same and rounds differently, on any machine: what differs from it is noise.

    Every MLP's intermediate neurons are permuted, and so are the channels of the residual stream, consistently in
    everything that reads or writes them (an RMS norm does not care about their order).
    """

    promise: ClassVar[Promise] = Promise.EQUIVALENT

    seed: int = 0

    @property
    def conflicts(self) -> Mapping[str, str]:
        """Quantized weights are packed in an order of their own."""
        return {"quantization": "packed weights cannot be permuted"}

    def for_transformers(self, plan: LoadPlan) -> None:
        """Permute the loaded weights in place."""
        plan.after_load.append(self._permute)

    def _permute(self, model: Any) -> None:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        blocks = [module for module in model.modules() if {"gate_proj", "up_proj", "down_proj"} <= set(dir(module))]
        name = "benign"
        if not blocks:
            msg = f"needs an architecture with gate_proj, up_proj and down_proj, not {type(model).__name__}"
            raise RequirementMissingError(name, msg)
        # Reordering packed weights, or those below an adapter, would make another function and a floor far too high.
        for path, module in model.named_modules():
            own = path.rpartition(".")[2]
            if own in READS | WRITES and not (
                type(module) is torch.nn.Linear and type(module.weight) is torch.nn.Parameter
            ):
                msg = f"needs plain linear layers, and {path} is {type(module).__name__} with weights of another kind"
                raise RequirementMissingError(name, msg)
        with torch.no_grad():
            for block in blocks:
                order = torch.randperm(block.down_proj.in_features, generator=generator)
                for linear in (block.gate_proj, block.up_proj):
                    _reorder(linear, order, rows=True)
                _reorder(block.down_proj, order, rows=False)
            _permute_residual(model, torch.randperm(model.config.hidden_size, generator=generator))


def _permute_residual(model: Any, order: Any) -> None:
    embedding = model.get_input_embeddings()
    embedding.weight.data = embedding.weight.data[:, order]
    for name, module in model.named_modules():
        own = name.rpartition(".")[2]
        if own in READS and module.weight is not embedding.weight:
            _reorder(module, order, rows=False)
        elif own in WRITES:
            _reorder(module, order, rows=True)
        elif "norm" in own and module.weight.shape == order.shape:
            module.weight.data = module.weight.data[order]


def _reorder(linear: Any, order: Any, *, rows: bool) -> None:
    weight = linear.weight.data
    linear.weight.data = weight[order] if rows else weight[:, order]
    if rows and linear.bias is not None:
        linear.bias.data = linear.bias.data[order]
