"""How much memory there is, and how much a variant will want."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from pytest_llmopt.core.loading import locate

if TYPE_CHECKING:
    from pytest_llmopt.core.variant import Variant

WIDTHS = {"float64": 4.0, "float32": 2.0, "auto": 2.0}
"""Bytes in memory over bytes on disk, for checkpoints stored in 16 bits."""


def available_bytes() -> int:
    """The memory that can still be taken: the scarcer of the machine's, its control group's and the GPU's, in bytes."""
    limits = [psutil.virtual_memory().available]
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        if limit != "max":
            limits.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass  # no control group, or not a Linux: the machine's own figure stands
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        limits.append(torch.cuda.mem_get_info()[0])
    return min(limits)


def wanted_bytes(variant: Variant) -> int:
    """What loading a variant may take at its peak, from the size of its local weights; 0 when they are not local."""
    folder = Path(locate(variant.model))
    on_disk = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
    return int(on_disk * WIDTHS.get(variant.dtype, 1.0) * 1.5)
