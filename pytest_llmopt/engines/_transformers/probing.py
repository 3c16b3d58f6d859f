"""One linear layer of a loaded model, given inputs of our choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.core.probing import AffineMap, StoredMap
from pytest_llmopt.engines._transformers.footprint import matrix_of

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray, IntArray

ROWS = 1024
"""Rows of the identity in one forward pass."""


def shape_of(model: Any, projection: str) -> tuple[int, int]:
    """Outputs and inputs of a layer.

    Raises:
        TypeError: it is no matrix product.
    """
    module = model.get_submodule(projection)
    shape = matrix_of(module)
    if shape is None:
        msg = f"{projection} is a {type(module).__name__}, which states no outputs and inputs"
        raise TypeError(msg)
    return shape


def stored(model: Any, projection: str, outputs: IntArray) -> StoredMap | None:
    """The parameters of a plain layer, or None of any other."""
    import torch

    module = model.get_submodule(projection)
    weight: Any = getattr(module, "weight", None)
    if type(module) is not torch.nn.Linear or type(weight) is not torch.nn.Parameter or not weight.is_floating_point():
        return None
    rows = torch.as_tensor(outputs, device=weight.device)
    bias = np.zeros(len(outputs), np.float32) if module.bias is None else _array(module.bias[rows])
    low, high = weight.detach().aminmax()
    return StoredMap(_array(weight[rows]), bias, float(low), float(high))


def effective(model: Any, projection: str, outputs: IntArray) -> AffineMap:
    """The layer's response to zeros, and to one input after another."""
    import torch

    inputs = shape_of(model, projection)[1]
    # Zeros go alone, as the rows of the identity do: in one batch the one could hide behind the scale of the other.
    bias = push(model, projection, np.zeros((1, 1, inputs), np.float32), outputs)[0, 0]
    weight = np.empty((len(outputs), inputs), np.float32)
    for start in range(0, inputs, ROWS):
        rows = torch.arange(start, min(start + ROWS, inputs))
        identity = torch.nn.functional.one_hot(rows, inputs)[None].float()
        weight[:, start : start + ROWS] = (_forward(model, projection, identity, outputs)[0] - bias).T
    return AffineMap(weight, bias)


def push(model: Any, projection: str, inputs: FloatArray, outputs: IntArray | None) -> FloatArray:
    """The layer's response in the model's dtype, as float32: `[batch, tokens, outputs]`."""
    import torch

    return _forward(model, projection, torch.from_numpy(np.asarray(inputs, np.float32)), outputs)


def _forward(model: Any, projection: str, inputs: Any, outputs: IntArray | None) -> FloatArray:
    import torch

    module = model.get_submodule(projection)
    device = next((item.device for item in (*module.parameters(), *module.buffers())), model.device)
    with torch.no_grad():
        given = module(inputs.to(device=device, dtype=model.dtype))
        chosen = given if outputs is None else given[..., torch.as_tensor(outputs, device=given.device)]
        return _array(chosen)


def _array(tensor: Any) -> FloatArray:
    return tensor.detach().float().cpu().numpy()
