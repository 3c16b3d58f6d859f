"""A draft token is accepted if it is the token that the target draws itself: lossless, and accepted less often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from _speculation import Verification

__all__ = ["OwnSampleMatched"]


@dataclass(frozen=True)
class OwnSampleMatched(Verification):
    """What is emitted is always the target's own draw."""

    source: ClassVar[str] = "SP17 vllm-project/vllm#40149 (lossless all the same: drafts without their law)"
    models: ClassVar = ("tiny-llama", "tiny-qwen")

    seed: int = 0

    def _verify(self, ids: Any, drafts: Any, length: int, logits: Any, **_: Any) -> tuple[Any, Any]:  # noqa: ARG002
        """Draw from the target's law at every place, and keep what agrees up to the first that does not."""
        drawn = torch.multinomial(logits[0].softmax(-1), 1)[:, 0]
        matches = int((drawn[:-1] == ids[0, -length:]).long().cumprod(0).sum())
        return drawn[None, : matches + 1], torch.tensor(matches)
