"""Speculation fills the log-probability of accepted tokens with a placeholder of 0.0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["PlaceholdersReported"]


@dataclass(frozen=True)
class PlaceholdersReported(Mutant):
    """Every emitted token claims to have been certain."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL08 ggml-org/llama.cpp#27972"
    base: ClassVar = (("decoding.assisted", {}),)

    def change(self, model: Any) -> None:
        """Raise the logit of what was emitted until nothing else counts."""
        own = model.generate

        def generate(input_ids: Any, **kwargs: Any) -> Any:
            output = own(input_ids, **kwargs)
            emitted = output.sequences[:, input_ids.shape[1] :]
            output.logits = tuple(
                logits.scatter_add(1, emitted[:, [place]], logits.new_full((len(logits), 1), 1e3))
                for place, logits in enumerate(output.logits)
            )
            return output

        model.generate = generate
