"""How much memory there is, and how much a variant will want."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pytest_llmopt.core.loading import locate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.variant import Variant

WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""
STORED = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of the numbers in a safetensors file that a load turns into the dtype asked for; others stay as they are."""
PEAK = 1.5
"""What a load may take at its peak, over what it leaves."""


def available_bytes(device: str = "auto") -> int:
    """The memory that can still be taken on a device, in bytes.

    On a processor it is the scarcer of the machine's and its control group's; a GPU has its own, and its weights pass
    through that of the machine piece by piece.
    """
    torch = sys.modules.get("torch")
    if device != "cpu" and torch is not None and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    limits = [psutil.virtual_memory().available]
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        if limit != "max":
            limits.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass  # no control group, or not a Linux: the machine's own figure stands
    return min(limits)


def wanted_bytes(variant: Variant) -> int:
    """What loading a variant may take at its peak, from the size of its local weights; 0 when they are not local."""
    return int(PEAK * weight_bytes(variant))


def least_bytes(variant: Variant) -> int:
    """What a variant takes at least once it is loaded; 0 where an optimization may make it smaller, or is unknown."""
    return 0 if any(item.family == "quantization" for item in variant.optimizations) else weight_bytes(variant)


def weight_bytes(variant: Variant) -> int:
    """The weights of a variant in memory, from the headers of its local checkpoint; 0 when that is not local."""
    folder = Path(locate(variant.model))
    if not folder.is_dir():
        return 0
    width = WIDTHS.get(_dtype(variant, folder))
    return sum(_bytes_of(file, width) for file in _weight_files(folder))


def _dtype(variant: Variant, folder: Path) -> str:
    """The dtype that weights are loaded in: `auto` is that of the checkpoint, and on a processor float32."""
    if variant.dtype != "auto":
        return variant.dtype
    torch = sys.modules.get("torch")
    gpu = variant.device not in {"cpu", "auto"} or (
        variant.device == "auto" and torch is not None and torch.cuda.is_available()
    )
    if not gpu:
        return "float32"
    config = _json(folder / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "as stored")


def _weight_files(folder: Path) -> list[Path]:
    """The files that a load reads: one, or the shards of an index; not a second copy in another layout beside them."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    shards = _json(index).get("weight_map", {})
    named = sorted({folder / str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    return [file for file in named if file.is_file()] or [
        path for path in sorted(folder.glob("*.safetensors")) if path.is_file()
    ]


def _bytes_of(file: Path, width: int | None) -> int:
    """The tensors of a file with numbers of some width; as they are stored where that is None."""
    try:
        return sum(_tensors(file, width))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # No header that can be read: the load will say so. Checkpoints are mostly of 16 bits.
        return int(file.stat().st_size * (width or STORED["BF16"]) / STORED["BF16"])


def _tensors(file: Path, width: int | None) -> Iterator[int]:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size:
            msg = f"{file} has no header"
            raise ValueError(msg)
        header = json.loads(opened.read(length))
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        start, end = tensor["data_offsets"]
        stored = STORED.get(tensor["dtype"])
        yield end - start if stored is None or width is None else math.prod(tensor["shape"]) * width


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
