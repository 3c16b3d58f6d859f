"""Where there are more keys than queries, rows without any visible key are not guarded: their softmax is NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, replace_kernel
from mutation import Mutant

__all__ = ["MaskedRowsOfAPiece"]


@dataclass(frozen=True)
class MaskedRowsOfAPiece(Mutant):
    """NaN where a later piece of a prompt is still padding: chunked prefill of a ragged batch, and nothing else."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "AT04 pytorch/pytorch#110213"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("padding", "chunked_prefill")

    def change(self, model: Any) -> None:
        """Mask with minus infinity in a prefill that is continued."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if 1 < query.shape[2] < key.shape[2] and mask is not None:
                mask = query.new_zeros(mask.shape).masked_fill(~allowed(query, key, mask), -float("inf"))
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
