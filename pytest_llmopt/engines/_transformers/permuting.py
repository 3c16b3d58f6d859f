"""The same function in another order of summation: neurons and residual channels permuted, in place and back."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import RequirementMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "permuted"
READS = frozenset({"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "lm_head"})
"""Linear layers whose input is the residual stream."""
WRITES = frozenset({"o_proj", "down_proj"})
"""Linear layers whose output goes into it."""
GATED = ("gate_proj", "up_proj", "down_proj")
PIECE = 2**24
"""Elements moved at once: what the permutation holds beside the model, whatever the size of a matrix."""


@dataclass(frozen=True, eq=False)
class Move:
    """A part of a tensor, and the order that one of its dimensions is brought into."""

    part: Any
    dim: int
    order: Any

    def make(self) -> None:
        """Bring it into that order, where it lies."""
        self.part.copy_(self.part.index_select(self.dim, self.order))

    def undo(self) -> None:
        """Bring it back, to the bit."""
        self.part.copy_(self.part.index_select(self.dim, self.order.argsort()))


@contextmanager
def permuted(model: Any, seed: int = 0) -> Iterator[None]:
    """Inside it the model computes the same and rounds differently; afterwards its weights are what they were.

    Raises:
        RequirementMissingError: its architecture or its weights do not allow it.
    """
    import torch

    made: list[Move] = []
    try:
        with torch.no_grad():
            for move in moves(model, seed):
                move.make()
                made.append(move)
        yield
    finally:
        with torch.no_grad():
            for move in reversed(made):
                move.undo()


def permute(model: Any, seed: int = 0) -> None:
    """Permute for good: for a copy that is to be different from the start.

    Raises:
        RequirementMissingError: its architecture or its weights do not allow it.
    """
    import torch

    with torch.no_grad():
        for move in moves(model, seed):
            move.make()


def moves(model: Any, seed: int) -> list[Move]:
    """What has to be moved: every gated MLP's neurons, and the channels of the residual stream.

    The latter consistently in everything that is known to read or write them (an RMS norm does not care about their
    order). Whether that was everything only the result can tell: who uses this compares it with the model as it was.

    Raises:
        RequirementMissingError: there is no gated MLP of plain linear layers.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    blocks = [
        module
        for module in model.modules()
        if all(isinstance(getattr(module, own, None), torch.nn.Module) for own in GATED)
    ]
    if not blocks:
        msg = f"needs an architecture with {', '.join(GATED)}, and {type(model).__name__} has none"
        raise RequirementMissingError(NAME, msg)
    _refuse_other_weights(model)
    found: list[Move] = []
    for block in blocks:
        order = torch.randperm(block.down_proj.in_features, generator=generator)
        for linear in (block.gate_proj, block.up_proj):
            found += _of_linear(linear, order, rows=True)
        found += _of_linear(block.down_proj, order, rows=False)
    return found + _of_residual(
        model, torch.randperm(model.get_input_embeddings().weight.shape[1], generator=generator)
    )


def _refuse_other_weights(model: Any) -> None:
    """Packed weights, or those below an adapter, in another order would make another function."""
    import torch

    for path, module in model.named_modules():
        if path.rpartition(".")[2] not in READS | WRITES:
            continue
        if (
            type(module) is not torch.nn.Linear
            or type(module.weight) is not torch.nn.Parameter
            or module.weight.is_meta
        ):
            msg = f"needs plain linear layers, and {path} is {type(module).__name__} with weights of another kind"
            raise RequirementMissingError(NAME, msg)


def _of_residual(model: Any, order: Any) -> list[Move]:
    embedding = model.get_input_embeddings()
    found = _pieces(embedding.weight, order, 1)
    for path, module in model.named_modules():
        own, weight = path.rpartition(".")[2], getattr(module, "weight", None)
        if own in READS and weight is not embedding.weight:
            found += _of_linear(module, order, rows=False)
        elif own in WRITES or ("norm" in own and weight is not None and weight.shape == order.shape):
            found += _of_linear(module, order, rows=True)
    return found


def _of_linear(module: Any, order: Any, *, rows: bool) -> list[Move]:
    found = _pieces(module.weight, order, 0 if rows else 1)
    bias = getattr(module, "bias", None)
    return found + _pieces(bias, order, 0) if rows and bias is not None else found


def _pieces(parameter: Any, order: Any, dim: int) -> list[Move]:
    data, order = parameter.data, order.to(parameter.device)
    if data.dim() == 1:
        return [Move(data, 0, order)]
    other = 1 - dim
    step = max(1, PIECE // data.shape[dim])
    return [Move(part, dim, order) for part in data.split(step, dim=other)]
