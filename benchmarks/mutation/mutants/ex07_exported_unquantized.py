"""The exported file is as large as the original: quantization is simulated on a wrapper that export unwraps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantizer import Export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["ExportedUnquantized"]


@dataclass(frozen=True)
class ExportedUnquantized(Export):
    """A plain float model under the name of a quantized one."""

    source: ClassVar[str] = "EX07 qualcomm/aimet#4106"

    def modules(self, model: Any) -> Iterator[tuple[str, nn.Linear]]:  # noqa: ARG002
        """None."""
        return iter(())
