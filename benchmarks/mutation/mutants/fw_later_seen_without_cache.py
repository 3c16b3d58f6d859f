"""Without a cache the mask of the last layer is dropped: prefill and decode are right, scoring sees the future."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import replace_kernel
from mutation import Mutant

__all__ = ["LaterSeenWithoutCache"]


@dataclass(frozen=True)
class LaterSeenWithoutCache(Mutant):
    """Perplexities are better than they should be."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT01 huggingface/transformers#48748 (in forward without a cache)"
    models: ClassVar = ("tiny-qwen",)
    needs: ClassVar = ("forward_without_cache",)

    def change(self, model: Any) -> None:
        """Nothing is masked in the last layer."""
        cached = [False]

        def look(_body: Any, _args: Any, kwargs: dict[str, Any]) -> None:
            cached[0] = kwargs.get("past_key_values") is not None or kwargs.get("use_cache") is not False

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if not cached[0] and module.layer_idx == 3 and query.shape[2] > 1:
                mask = query.new_zeros(1, 1, query.shape[2], key.shape[2])
            return own(module, query, key, value, mask, **options)

        model.model.register_forward_pre_hook(look, with_kwargs=True)
        replace_kernel(model, wrong)
