"""The seed of a request is not handed on: the generator goes on from wherever it is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import while_generating
from mutation import Mutant

__all__ = ["SeedIgnored"]


@dataclass(frozen=True)
class SeedIgnored(Mutant):
    """Nothing can be reproduced; the distribution is right."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL seed not handed on (the other face of SL05 vllm-project/vllm#26859)"
    needs: ClassVar[tuple[str, ...]] = ("sampling", "same_seed")

    def change(self, model: Any) -> None:
        """Seed from the system."""

        def around(_kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            import torch

            torch.seed()
            return nullcontext()

        while_generating(model, around)
