"""The draft is asked before the last token has arrived, and proposes for a text that is one token shorter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from _speculation import replaced, while_generating
from mutation import Mutant

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["DraftOfOlderText"]


@dataclass(frozen=True)
class DraftOfOlderText(Mutant):
    """A draft that is consulted at every step and accepted by accident only."""

    category: ClassVar[str] = "performance"
    source: ClassVar[str] = "PF draft out of step (SP15 sgl-project/sglang#8726: draft state of another position)"
    base: ClassVar = (("decoding.assisted", {}),)

    def change(self, model: Any) -> None:
        """Shift what it proposes by one place."""
        from transformers.generation.candidate_generator import AssistedCandidateGenerator as Generator

        own = Generator.get_candidates

        def get_candidates(generator: Any, input_ids: Any, **kwargs: Any) -> Any:
            ids, logits = own(generator, input_ids, **kwargs)
            start = input_ids.shape[1]
            ids = ids.clone()
            ids[0, start:] = ids[0, start - 1 : -1].clone()
            return ids, logits

        def around(_kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            return replaced(Generator, "get_candidates", get_candidates)

        while_generating(model, around)
