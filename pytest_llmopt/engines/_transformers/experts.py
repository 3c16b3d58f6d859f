"""Experts that lie in one tensor, `[experts, outputs, inputs]`: each is a projection, though it is no module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.engines._transformers.footprint import matrix_of, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STACKED = re.compile(r"(?P<owner>.*)\.(?P<parameter>\w+)\[(?P<number>\d+)\]")
APART = re.compile(r"(?P<owner>.*experts)\.(?P<number>\d+)\.(?P<part>\w+)")
PARTS = {
    "gate_proj": ("gate_up_proj", 0),
    "w1": ("gate_up_proj", 0),
    "up_proj": ("gate_up_proj", 1),
    "w3": ("gate_up_proj", 1),
    "gate_up_proj": ("gate_up_proj", None),
    "down_proj": ("down_proj", None),
    "w2": ("down_proj", None),
}
"""Of an expert that lies apart: the stack that holds it, and which half of its outputs it is."""
DIMENSIONS = 3


@dataclass(frozen=True, eq=False)
class Stack:
    """The matrices of all experts of a layer, in one parameter."""

    name: str
    kind: str
    """Class of the module and of the tensor."""
    tensor: Any
    transposed: bool
    """Whether inputs come before outputs."""

    @property
    def count(self) -> int:
        """Its experts."""
        return int(self.tensor.shape[0])

    @property
    def outputs(self) -> int:
        """Of each expert."""
        return int(self.tensor.shape[2 if self.transposed else 1])

    @property
    def inputs(self) -> int:
        """Of each expert."""
        return int(self.tensor.shape[1 if self.transposed else 2])

    @property
    def weight_bytes(self) -> int:
        """Held by its live tensors, scales and codes included."""
        held = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts_of(self.tensor)}
        return sum(held.values())


def stacks(model: Any) -> Iterator[Stack]:
    """Every parameter of three dimensions of a module that holds experts; a convolution's is none."""
    for name, module in model.named_modules():
        if matrix_of(module) is None and _holds_experts(module):
            for parameter, tensor in module.named_parameters(recurse=False):
                if tensor.ndim == DIMENSIONS:
                    kind = f"{type(module).__name__}[{type(tensor).__name__}]"
                    yield Stack(f"{name}.{parameter}", kind, tensor, _is_transposed(module, parameter, tensor))


def find(model: Any, projection: str) -> Any:
    """The matrix of one expert, `[outputs, inputs]`; None where the name is that of a module, or of nothing.

    `experts.3.up_proj` names the second half of the third `gate_up_proj` where the model has no module of that name.
    """
    stacked = STACKED.fullmatch(projection)
    if stacked is not None:
        module = model.get_submodule(stacked["owner"])
        return _matrix(module, stacked["parameter"], int(stacked["number"]))
    apart = APART.fullmatch(projection)
    if apart is None or apart["part"] not in PARTS or _has(model, projection) or not _has(model, apart["owner"]):
        return None
    module, (parameter, half) = model.get_submodule(apart["owner"]), PARTS[apart["part"]]
    if getattr(getattr(module, parameter, None), "ndim", 0) != DIMENSIONS:
        return None
    matrix = _matrix(module, parameter, int(apart["number"]))
    if half is None:
        return matrix
    if not getattr(module, "is_concatenated", True):
        return matrix[half::2]
    middle = matrix.shape[0] // 2
    return matrix[middle:] if half else matrix[:middle]


def other_weights(model: Any) -> Mapping[str, int]:
    """Parameters with two dimensions or more of modules that are no projection, stack of experts, embedding or norm."""
    import torch

    known = {stack.name for stack in stacks(model)}
    heads = {id(getattr(model.get_output_embeddings(), "weight", None))}
    found = {}
    for name, module in model.named_modules():
        if matrix_of(module) is not None or isinstance(module, torch.nn.Embedding) or hasattr(module, "base_layer"):
            continue
        for parameter, tensor in module.named_parameters(recurse=False):
            full = f"{name}.{parameter}".lstrip(".")
            if tensor.ndim > 1 and full not in known and id(tensor) not in heads:
                found[full] = tensor.numel()
    return found


def _holds_experts(module: Any) -> bool:
    return "experts" in type(module).__name__.lower() or isinstance(getattr(module, "num_experts", None), int)


def _is_transposed(module: Any, parameter: str, tensor: Any) -> bool:
    stated = getattr(module, "is_transposed", None)
    if isinstance(stated, bool):
        return stated
    hidden = next(
        (size for name in ("hidden_size", "hidden_dim") if isinstance(size := getattr(module, name, 0), int)), 0
    )
    first, second = tensor.shape[1], tensor.shape[2]
    if hidden == 0 or first == second:
        return False
    return bool(second == hidden if "down" in parameter else first == hidden)


def _matrix(module: Any, parameter: str, number: int) -> Any:
    tensor = getattr(module, parameter)
    matrix = tensor.data[number]
    return matrix.T if _is_transposed(module, parameter, tensor) else matrix


def _has(model: Any, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True
