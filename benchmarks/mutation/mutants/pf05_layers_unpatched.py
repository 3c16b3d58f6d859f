"""The kernel is put into the layers that the patcher knows by name; the others keep the old one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["LayersUnpatched"]


@dataclass(frozen=True)
class LayersUnpatched(Mutant):
    """The configuration says sdpa, and half of the layers run eagerly."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF05 dropbox/hqq#135"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)

    def change(self, model: Any) -> None:
        """Leave the last two layers out."""
        for layer in model.model.layers[2:]:
            layer.self_attn.config = copy.deepcopy(model.config)
            layer.self_attn.config._attn_implementation = "eager"  # noqa: SLF001 - what each layer looks up
