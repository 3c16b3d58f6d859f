"""Which steps after loading changed the weights, so that a saved copy holds their effect already."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.files import write_json
from pytest_llmopt.engines._transformers.footprint import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_llmopt.core.variant import Applied

MARKER = "llmopt-saved.json"
"""Beside saved weights: the optimizations whose effect is in them."""
SAMPLE = 4096
"""Elements of each tensor that are looked at in their order, beside the sum of all."""


def fingerprint(model: Any) -> dict[str, object]:
    """What is saved of a model, by name: values that are others once a weight is changed or moved."""
    return {
        name: tuple(_values(part) for part in parts_of(tensor))
        for name, tensor in model.state_dict().items()
        if hasattr(tensor, "untyped_storage")
    }


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    """Whether a weight that is there both times has other values.

    Names that come or go are no change: an adapter moves its base layers and leaves them as they are.
    """
    return any(before[name] != after[name] for name in before.keys() & after.keys())


def key_of(item: Applied) -> str:
    """An optimization with its options, as text."""
    return f"{item.name} {item.options!r}"


def mark(folder: Path, in_weights: Iterable[str], undone: Iterable[str]) -> None:
    """Write beside saved weights what they hold.

    Args:
        folder: where the weights are.
        in_weights: optimizations whose steps after loading changed the weights.
        undone: optimizations that the saved weights have nothing of any more, as a quantizer before `dequantize`.
    """
    write_json(folder / MARKER, {"in_weights": sorted(in_weights), "undone": sorted(undone)})


def marked(model: str) -> tuple[frozenset[str], frozenset[str]]:
    """What was marked in a model's folder: in the weights, and undone; nothing elsewhere."""
    file = Path(model) / MARKER
    if not file.is_file():
        return frozenset(), frozenset()
    content = json.loads(file.read_text(encoding="utf-8"))
    return frozenset(content["in_weights"]), frozenset(content["undone"])


def is_packed_copy(model: str) -> bool:
    """Whether a folder is a copy that was saved here and whose weights are packed."""
    folder = Path(model)
    if not (folder / MARKER).is_file():
        return False
    return bool(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config"))


def _values(tensor: Any) -> object:
    """Shape, dtype, the sum of its bytes as integers, and a checksum of some of them in order."""
    import torch

    if tensor.device.type == "meta":
        return (tuple(tensor.shape), str(tensor.dtype))
    # Weights that were only widened are the same weights; a load gives them in the width that was asked for.
    tensor = tensor.float() if tensor.dtype == torch.float64 else tensor
    flat = tensor.detach().reshape(-1)
    if flat.numel() == 0:
        return (tuple(tensor.shape), str(tensor.dtype))
    if flat.data_ptr() % 8:
        flat = flat.clone()
    octets = flat.view(torch.uint8)
    whole = octets.numel() // 8 * 8
    # Integers wrap around and lose nothing, so that the least bit of one weight shows in the sum.
    total = int(octets[:whole].view(torch.int64).sum()) + int(octets[whole:].sum())
    some = flat[:: max(1, flat.numel() // SAMPLE)].contiguous().view(torch.uint8).cpu().numpy().tobytes()
    return (tuple(tensor.shape), str(tensor.dtype), total, zlib.crc32(some))
