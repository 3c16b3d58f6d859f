"""One linear layer of a loaded model, given inputs of our choice."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.core.probing import AffineMap, StoredMap
from pytest_llmopt.engines._transformers import experts
from pytest_llmopt.engines._transformers.footprint import matrix_of

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import FloatArray, IntArray

PLAIN = ("Linear", "Conv1D")
"""Layers whose weight is what they multiply by; Transformers' `Conv1D` has it transposed."""
ROWS = 1024
"""Rows of the identity in one forward pass."""


def _layer(model: Any, projection: str) -> Any:
    """A layer by its name; the one below an adapter, which is none of the layer's weights."""
    module = model.get_submodule(projection)
    return getattr(module, "base_layer", module)


def shape_of(model: Any, projection: str) -> tuple[int, int]:
    """Outputs and inputs of a layer, or of an expert.

    Raises:
        TypeError: it is no matrix product.
    """
    found = experts.find(model, projection)
    if found is not None:
        return (found.shape[0], found.shape[1])
    module = _layer(model, projection)
    shape = matrix_of(module)
    if shape is None:
        msg = f"{projection} is a {type(module).__name__}, which states no outputs and inputs"
        raise TypeError(msg)
    return shape


def stored(model: Any, projection: str, outputs: IntArray) -> StoredMap | None:
    """The parameters of a plain layer or expert, or None of any other."""
    import torch

    found = experts.find(model, projection)
    if found is not None:
        weight, bias = found, None
    else:
        try:
            module = _layer(model, projection)
        except AttributeError:
            return None
        own: Any = getattr(module, "weight", None)
        if type(own) is not torch.nn.Parameter or type(module).__name__ not in PLAIN:
            return None
        weight, bias = (own.T if type(module).__name__ == "Conv1D" else own), module.bias
    if type(weight) not in {torch.nn.Parameter, torch.Tensor} or not weight.is_floating_point():
        return None
    rows = torch.as_tensor(outputs, device=weight.device)
    low, high = weight.detach().aminmax()
    added = np.zeros(len(outputs), np.float32) if bias is None else _array(bias[rows])
    return StoredMap(_array(weight[rows]), added, float(low), float(high))


def order_of(model: Any, projection: str) -> IntArray | None:
    """The inputs sorted by the number of their group, where the layer keeps them (`g_idx` of GPTQ)."""
    if experts.find(model, projection) is not None:
        return None
    numbers = getattr(_layer(model, projection), "g_idx", None)
    if numbers is None or numbers.numel() != shape_of(model, projection)[1]:
        return None
    return np.argsort(numbers.detach().cpu().numpy(), kind="stable")


def effective(model: Any, projection: str, outputs: IntArray) -> AffineMap:
    """The layer's response to zeros, and to one input after another; of an expert the weights that it multiplies by."""
    import torch

    found = experts.find(model, projection)
    if found is not None:
        chosen = _plain(found)[torch.as_tensor(outputs, device=found.device)]
        return AffineMap(_array(chosen), np.zeros(len(outputs), np.float32))
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

    found = experts.find(model, projection)
    module: Any = _layer(model, projection) if found is None else functools.partial(_times, found)
    device = (
        found.device
        if found is not None
        else next((item.device for item in (*module.parameters(), *module.buffers())), model.device)
    )
    with torch.no_grad():
        given = module(inputs.to(device=device, dtype=model.dtype))
        chosen = given if outputs is None else given[..., torch.as_tensor(outputs, device=given.device)]
        return _array(chosen)


def _times(weight: Any, inputs: Any) -> Any:
    return inputs @ _plain(weight).to(inputs.dtype).T


def _plain(weight: Any) -> Any:
    """The values of an expert's weight, whatever class of tensor holds them."""
    return weight.dequantize() if hasattr(weight, "__tensor_flatten__") and hasattr(weight, "dequantize") else weight


def _array(tensor: Any) -> FloatArray:
    return tensor.detach().float().cpu().numpy()
