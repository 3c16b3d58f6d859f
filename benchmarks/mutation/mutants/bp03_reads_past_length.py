"""In a token step of a batch, every row but the first reads one key past its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["ReadsPastLength"]


@dataclass(frozen=True)
class ReadsPastLength(Mutant):
    """Occasional NaN, by what the memory holds; with cleared memory, a little attention goes to a zero key."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BP03 microsoft/onnxruntime#20521"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704, "reuse": True}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("batch", "decode")

    def change(self, model: Any) -> None:
        """Let the later rows of a decode step see one slot more."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if query.shape[2] == 1 and query.shape[0] > 1:
                seen = allowed(query, key, mask).expand(query.shape[0], -1, -1, -1).clone()
                length = int(seen.any(0).nonzero()[-1, -1]) + 1
                seen[1:, ..., length : length + 1] = True
                mask = as_mask(seen, query)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
