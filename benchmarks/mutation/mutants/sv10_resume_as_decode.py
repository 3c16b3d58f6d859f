"""A batch in which every request resumes is taken for one of decode steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import allowed, as_mask, replace_kernel
from mutation import Mutant

__all__ = ["ResumeAsDecode"]


@dataclass(frozen=True)
class ResumeAsDecode(Mutant):
    """All tokens of a resumed piece see the whole piece."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "SV10 tenstorrent/vllm#326"
    base: ClassVar = (("kernels.attention", {"implementation": "sdpa"}),)
    models: ClassVar = ("tiny-llama", "tiny-qwen")
    needs: ClassVar = ("chunked_prefill",)

    def change(self, model: Any) -> None:
        """Give every query of a resumed piece the mask of the last."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if 1 < query.shape[2] < key.shape[2]:
                seen = allowed(query, key, mask)
                mask = as_mask(seen[:, :, -1:].expand(seen.shape), query)
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
