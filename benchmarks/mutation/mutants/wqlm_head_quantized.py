"""As good as it looks, but not what the recipe says: the head is quantized along with the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantizer import WeightQuantizer
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["HeadQuantized"]


@dataclass(frozen=True)
class HeadQuantized(WeightQuantizer):
    """The list of modules to leave alone does not match the name of the head."""

    source: ClassVar[str] = "WQ-head table M, lm_head quantized against the recipe"
    models: ClassVar[tuple[str, ...]] = ("tiny-qwen",)
    needs: ClassVar[tuple[str, ...]] = ("untied_head",)

    def modules(self, model: Any) -> Iterator[tuple[str, nn.Linear]]:
        """Every linear layer."""
        return ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
