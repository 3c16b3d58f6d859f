"""Attention over the pieces of a context is averaged without the weight of each piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["ChunksAveraged"]


@dataclass(frozen=True)
class ChunksAveraged(Mutant):
    """The smaller the pieces of a prompt, the worse."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "SV06 vllm-project/vllm#26042"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("chunked_prefill",)

    def change(self, model: Any) -> None:
        """Attend to the past and to the piece itself apart, and take the mean."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            past = key.shape[2] - query.shape[2]
            if query.shape[2] == 1 or past == 0:
                return own(module, query, key, value, mask, **options)
            seen = allowed(query, key, mask)
            parts = [
                own(module, query, key[:, :, part], value[:, :, part], as_mask(seen[..., part], query), **options)[0]
                for part in (slice(past), slice(past, None))
            ]
            return sum(parts) / 2, None

        replace_kernel(model, wrong)
