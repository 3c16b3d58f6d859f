"""The draft proposes its most probable token, and is verified as if it had drawn from its softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from _speculation import Verification, replaced

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["ArgmaxDraft"]


@dataclass(frozen=True)
class ArgmaxDraft(Verification):
    """Greedy text is perfect; sampled text has another distribution than the model's."""

    source: ClassVar[str] = "SP02 huggingface/transformers#32867"

    def contexts(self, _model: Any, _kwargs: dict[str, Any]) -> list[AbstractContextManager[Any]]:
        """Let the draft decode greedily."""
        from transformers.generation.candidate_generator import AssistedCandidateGenerator as Generator

        own = Generator._generate_candidates  # noqa: SLF001 - where the library asks the draft

        def greedy(generator: Any, arguments: Any) -> Any:
            generator.generation_config.do_sample = False
            return own(generator, arguments)

        return [replaced(Generator, "_generate_candidates", greedy)]
