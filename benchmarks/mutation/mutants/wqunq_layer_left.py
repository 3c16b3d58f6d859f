"""Hardly smaller than promised and better than it should be: one layer is skipped by the loop that quantizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantizer import WeightQuantizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["LayerLeft"]


@dataclass(frozen=True)
class LayerLeft(WeightQuantizer):
    """An index that starts at one too many; a float layer among quantized ones."""

    source: ClassVar[str] = "WQ-unq table M, one layer left unquantized; compare dropbox/hqq#135"

    def modules(self, model: Any) -> Iterator[tuple[str, nn.Linear]]:
        """All but those of the second layer."""
        return (item for item in super().modules(model) if ".1." not in item[0])
