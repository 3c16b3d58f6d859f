"""Right answers and more memory than before: the float layer is kept beside the packed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from quantizer import WeightQuantizer

__all__ = ["OriginalKept"]


@dataclass(frozen=True)
class OriginalKept(WeightQuantizer):
    """The wrapper holds on to what it was made from."""

    source: ClassVar[str] = "WQ-dup, the original weights stay referenced; compare PF02"

    def change(self, model: Any) -> None:
        """Hang each float layer under the one that replaced it."""
        before = dict(self.modules(model))
        super().change(model)
        for name, module in before.items():
            model.get_submodule(name).original = module
