"""In a full batch of eight the last row attends to the values of the row before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _attention import replace_kernel
from mutation import Mutant

__all__ = ["EighthRow"]


@dataclass(frozen=True)
class EighthRow(Mutant):
    """One row in eight, and only when the batch is full."""

    category: ClassVar[str] = "batching"
    source: ClassVar[str] = "BP03 microsoft/onnxruntime#20521 (an index of rows that stops one short)"
    base: ClassVar = (("decoding.static_cache", {"max_cache_len": 704}),)
    needs: ClassVar = ("batch of 8", "decode")

    def change(self, model: Any) -> None:
        """In decode steps of the third layer."""

        def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            if query.shape[0] == 8 and query.shape[2] == 1 and module.layer_idx == 2:
                value = value.clone()
                value[7] = value[6]
            return own(module, query, key, value, mask, **options)

        replace_kernel(model, wrong)
