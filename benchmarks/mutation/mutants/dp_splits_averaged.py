"""Beyond 512 keys a decode step computes attention in two splits, and averages them without their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["SplitsAveraged"]


@dataclass(frozen=True)
class SplitsAveraged(Mutant):
    """One split is enough for all shorter texts."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "SV06 vllm-project/vllm#26042 (split-KV decode, by length)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    needs: ClassVar = ("position 512", "decode")

    def change(self, model: Any) -> None:
        """Halves."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            length = key.shape[2]
            if query.shape[2] > 1 or length <= 512:
                return own(module, query, key, value, mask, **options)
            seen = allowed(query, key, mask)
            halves = []
            for part in (slice(0, length // 2), slice(length // 2, length)):
                inner = as_mask(seen[..., part], query)
                halves.append(own(module, query, key[:, :, part], value[:, :, part], inner, **options)[0])
            return (halves[0] + halves[1]) / 2, None

        replace_kernel(model, wrong)
