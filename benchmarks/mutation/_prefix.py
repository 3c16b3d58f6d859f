"""A prefix cache for one model: keys and values of whole blocks of earlier prompts are used again."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mutation import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

BLOCK = 16


@dataclass(frozen=True)
class ServesPrefixes(Mutant):
    """A bug of a cache of prefixes, which serves one request at a time."""

    category: ClassVar[str] = "kv_cache"

    def for_transformers(self, plan: Any) -> None:
        """One row in each batch."""
        plan.max_batch = 1
        super().for_transformers(plan)


class PrefixCache:
    """Looks up the longest run of blocks under a key of its tokens; right as long as the key tells them apart."""

    def __init__(self, key: Callable[[Sequence[int]], Hashable] = tuple) -> None:
        self.key = key
        self.hits = 0
        self._blocks: dict[Hashable, list[tuple[Any, Any]]] = {}

    def serve(self, model: Any) -> None:
        """Put it in front of the model's `generate`, for requests of one row."""
        own = model.generate

        @functools.wraps(own)
        def generate(input_ids: Any, **kwargs: Any) -> Any:
            from transformers import DynamicCache

            tokens = input_ids[0].tolist()
            cache = DynamicCache(config=model.config)
            for place, (keys, values) in enumerate(self._longest(tokens)):
                cache.update(*self.restored(keys, values), place)
            output = own(input_ids, past_key_values=cache, **kwargs)
            for end in range(BLOCK, len(tokens) + 1, BLOCK):
                held = [(layer.keys[:, :, :end].clone(), layer.values[:, :, :end].clone()) for layer in cache.layers]
                self._blocks.setdefault(self.key(tokens[:end]), held)
            return output

        model.generate = generate

    def restored(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """What comes back of what was stored."""
        return keys.clone(), values.clone()

    def _longest(self, tokens: Sequence[int]) -> list[tuple[Any, Any]]:
        for end in range((len(tokens) - 1) // BLOCK * BLOCK, 0, -BLOCK):
            if (held := self._blocks.get(self.key(tokens[:end]))) is not None:
                self.hits += 1
                return held
        return []
