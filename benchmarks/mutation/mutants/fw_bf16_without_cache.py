"""Without a cache, attention runs in bfloat16: the path that scoring and training share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import replace_kernel
from mutation import Mutant

__all__ = ["Bf16WithoutCache"]


@dataclass(frozen=True)
class Bf16WithoutCache(Mutant):
    """Generated text is exact, perplexities are not."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT01 huggingface/transformers#48748 (cached and uncached disagree)"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    needs: ClassVar = ("forward_without_cache",)

    def change(self, model: Any) -> None:
        """Round queries, keys and values where no cache is used."""
        cached = [False]

        def look(_body: Any, _args: Any, kwargs: dict[str, Any]) -> None:
            cached[0] = kwargs.get("past_key_values") is not None or kwargs.get("use_cache") is not False

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if not cached[0]:
                query, key, value = (part.bfloat16().to(part.dtype) for part in (query, key, value))
            return own(module, query, key, value, mask, **options)

        model.model.register_forward_pre_hook(look, with_kwargs=True)
        replace_kernel(model, wrong)
