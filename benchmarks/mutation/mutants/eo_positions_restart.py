"""Positions start at zero again after an end-of-sequence token, as in packed training text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from _attention import reposition
from mutation import Mutant

__all__ = ["PositionsRestart"]


@dataclass(frozen=True)
class PositionsRestart(Mutant):
    """Two tokens of a chat have the same position."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "EO position_ids of packed sequences"
    base: ClassVar = (("decoding.assisted", {}),)
    needs: ClassVar = ("eos_in_prompt",)

    def change(self, model: Any) -> None:
        """In prefill; decode steps count on."""
        end = model.config.eos_token_id

        def wrong(positions: Any, _past: int, arguments: dict[str, Any]) -> Any:
            ids = arguments.get("input_ids")
            if ids is None or ids.shape[1] < 3 or positions.shape != ids.shape:
                return positions
            starts = (ids == end).cumsum(1).roll(1, 1)
            starts[:, 0] = 0
            restarted = positions.clone()
            for row, documents in enumerate(starts):
                for document in documents.unique():
                    place = documents == document
                    if document:
                        restarted[row, place] = torch.arange(int(place.sum()))
            return restarted

        reposition(model, wrong)
