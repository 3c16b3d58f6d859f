"""After a rejection the cache is cropped by one token too few: the last rejected proposal stays in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import longer_mask, on_cache
from mutation import Mutant

__all__ = ["CropOneShort"]


@dataclass(frozen=True)
class CropOneShort(Mutant):
    """Assisted greedy text leaves the model's own after the first block that was not accepted whole."""

    category: ClassVar[str] = "speculative_greedy"
    source: ClassVar[str] = "SP11 huggingface/transformers#30042"
    base: ClassVar = (("decoding.assisted", {}),)

    def change(self, model: Any) -> None:
        """Keep one of the tokens that are to go, and attend to it; positions go on as if it were not there."""

        def crop_less(cache: Any) -> None:
            own = cache.crop
            cache.crop = lambda tokens: own(min(0, tokens + 1))

        on_cache(model, crop_less)
        model.register_forward_pre_hook(longer_mask, with_kwargs=True)
