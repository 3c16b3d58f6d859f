"""What attention is given of a prompt's keys and values in a decode step, against what prefill handed to the cache."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOKENS = 96


def worst_gain(model: Any, generate: Mapping[str, Any]) -> float:
    """How far the cache scales what is read from it, at worst over layers, keys, values and heads: 0 is exact.

    The gain of one head is the slope of what is read on what was written, <read, written> / <written, written>, less 1:
    rounding moves every value a little and both ways, a wrong scale moves all of them one way. Infinite where nothing
    was read back, as from a cache that never went through the library's.

    Args:
        model: the loaded model.
        generate: the keyword arguments that its `generate` calls have.
    """
    import torch

    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids = torch.randint(vocabulary, (1, TOKENS), generator=torch.Generator().manual_seed(0)).to(model.device)
    settings = {"do_sample": False, "max_new_tokens": 3, "min_new_tokens": 3, "pad_token_id": 0}
    with _watching() as seen:
        model.generate(ids, attention_mask=torch.ones_like(ids), **{**settings, **generate})
    gains = [abs(gain) for written, read in seen.values() if read is not None for gain in _gains(written, read)]
    return max(gains, default=float("inf"))


def _gains(written: Any, read: Any) -> list[float]:
    written, read = written.double(), read[..., : written.shape[-2], :].double()
    slopes = (read * written).sum((0, 2, 3)) / (written * written).sum((0, 2, 3)).clamp(min=1e-30) - 1
    return [float(slope) if slope == slope else float("inf") for slope in slopes]  # noqa: PLR0124 - NaN is no gain


@contextmanager
def _watching() -> Iterator[dict[tuple[int, str], tuple[Any, Any]]]:
    """By layer and kind: what the first update of the cache was given, and what the last one gave back."""
    from transformers.cache_utils import Cache

    own = Cache.update
    seen: dict[tuple[int, str], tuple[Any, Any]] = {}

    def update(cache: Any, keys: Any, values: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        first = {kind: states.clone() for kind, states in (("keys", keys), ("values", values))}
        given = own(cache, keys, values, layer_idx, *args, **kwargs)
        for kind, states in zip(("keys", "values"), given, strict=True):
            written, _ = seen.get((layer_idx, kind), (None, None))
            # Of the first update only what was written counts: libraries give back the states themselves there.
            seen[layer_idx, kind] = (first[kind], None) if written is None else (written, states.clone())
        return given

    Cache.update = update
    try:
        yield seen
    finally:
        Cache.update = own
