"""All positions of a row are shifted by the same number: rotary attention only sees distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _benign import OnPermutedCopy

__all__ = ["PositionShift"]


@dataclass(frozen=True)
class PositionShift(OnPermutedCopy):
    """An equivalent mutant, and a favorite false alarm."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "BN22 (see BP01 of the catalogue)"

    def change(self, model: Any) -> None:
        """Shift what the rotary embedding is given."""
        shift = 1 + self.seed % 16

        def shifted(_module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            return args, kwargs | {"position_ids": kwargs["position_ids"] + shift}

        model.model.rotary_emb.register_forward_pre_hook(shifted, with_kwargs=True)
