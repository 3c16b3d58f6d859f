"""The devices that a model can be put on."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.quoting import quoted
from pytest_llmopt.core.requirements import device_requirements, require

if TYPE_CHECKING:
    from pytest_llmopt.core.variant import Variant

PLAIN = ("auto", "cpu", "cpu:0")
"""What is everywhere."""
LACKS = {"mps": "float64"}
"""By kind of device, a dtype that it cannot compute with."""


def check_device(variant: Variant) -> None:
    """Accept a device of this machine, and a dtype that it computes with.

    Torch is imported only to look for what is not everywhere.

    Raises:
        OptionError: there is no such device; says what is here.
        RequirementMissingError: it is a CUDA device that is not here.
    """
    device = variant.device
    if device in PLAIN:
        return
    kind = re.fullmatch(r"([a-z]+)(?::(\d+))?", device) if isinstance(device, str) else None
    if kind is None or not (kind[1] == "cuda" or device in _accelerators()):
        here = (*PLAIN[:2], *_accelerators())
        word = str(device).strip().lower()
        near = difflib.get_close_matches("cuda" if word.startswith("gpu") else word, (*here, "cuda"), n=1, cutoff=0.7)
        hint = f"did you mean {near[0]!r}? " if near else ""
        msg = f"there is no device {quoted(device)} here; {hint}--llmopt-device takes one of {', '.join(here)}"
        raise OptionError(msg)
    require(*device_requirements(device))
    if variant.dtype == LACKS.get(kind[1]):
        msg = f"device {device!r} cannot compute in {variant.dtype}; give --llmopt-dtype float32, or another device"
        raise OptionError(msg)


def _accelerators() -> tuple[str, ...]:
    """Every device of this machine beside the processor: by its kind, and by kind and number."""
    import torch

    found = []
    for kind in ("cuda", "mps", "xpu", "npu", "hpu", "mlu", "musa"):
        module = getattr(torch.backends if kind == "mps" else torch, kind, None)
        if module is not None and getattr(module, "is_available", bool)():
            count = getattr(module, "device_count", lambda: 1)()
            found += [kind, *(f"{kind}:{place}" for place in range(count))]
    return tuple(found)
