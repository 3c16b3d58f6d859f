"""The draft proposes its favorites, and one is accepted if it is the token that the target draws itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from _speculation import Verification, replaced

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["FavoriteMatched"]


@dataclass(frozen=True)
class FavoriteMatched(Verification):
    """What is emitted is always the target's own draw, and no certain proposal can be accepted more often.

    In place of `bn_own_sample_matched`, which proposed as it sampled: that is lossless too, but loses most of the
    acceptance, and to say so is right. Its first sight stays recorded.
    """

    source: ClassVar[str] = "SP17 vllm-project/vllm#40149 (lossless all the same: drafts without their law)"
    models: ClassVar = ("tiny-llama", "tiny-qwen")

    seed: int = 0

    def contexts(self, _model: Any, _kwargs: dict[str, Any]) -> list[AbstractContextManager[Any]]:
        """The draft decodes greedily."""
        from transformers.generation.candidate_generator import AssistedCandidateGenerator as Generator

        own = Generator._generate_candidates  # noqa: SLF001

        def greedy(generator: Any, arguments: Any) -> Any:
            generator.generation_config.do_sample = False
            return own(generator, arguments)

        return [replaced(Generator, "_generate_candidates", greedy)]

    def _verify(self, ids: Any, drafts: Any, length: int, logits: Any, **_: Any) -> tuple[Any, Any]:  # noqa: ARG002
        """Draw from the target's law at every place, and keep what agrees up to the first that does not."""
        drawn = torch.multinomial(logits[0].softmax(-1), 1)[:, 0]
        matches = int((drawn[:-1] == ids[0, -length:]).long().cumprod(0).sum())
        return drawn[None, : matches + 1], torch.tensor(matches)
