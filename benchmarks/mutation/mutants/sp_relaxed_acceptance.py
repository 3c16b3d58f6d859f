"""A proposal is accepted if it is among the target's two most probable tokens and close to the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import Acceptance

__all__ = ["RelaxedAcceptance"]


@dataclass(frozen=True)
class RelaxedAcceptance(Acceptance):
    """Greedy speculation that is faster than it could be: now and then a second-best token is emitted."""

    source: ClassVar[str] = "SP relaxed acceptance (NVIDIA/TensorRT-LLM, for DeepSeek MTP) taken for lossless"

    def accepts(self, scores: Any, proposal: int, _place: int, _length: int) -> bool:
        """Within 0.6 of the probability of the favorite."""
        best, second = scores.softmax(-1).topk(2)[0].tolist()
        return proposal in scores.topk(2).indices.tolist() and second > best - 0.6 * best
