"""Proposals are verified against a mixture of target and draft."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import while_generating
from mutation import Mutant

__all__ = ["EnsembleWeight"]


@dataclass(frozen=True)
class EnsembleWeight(Mutant):
    """More proposals are accepted than a lossless rule can: an option of the library that is lossy by design."""

    category: ClassVar[str] = "speculative_sampled"
    source: ClassVar[str] = "SP huggingface/transformers assistant_ensemble_weight (DIVERSE, arXiv 2604.07622)"
    base: ClassVar = (("decoding.assisted", {}),)
    needs: ClassVar = ("sampling",)

    weight: float = 0.8

    def change(self, model: Any) -> None:
        """Give every call the option."""

        def around(kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            if kwargs.get("do_sample"):
                kwargs["assistant_ensemble_weight"] = self.weight
            return nullcontext()

        while_generating(model, around)
