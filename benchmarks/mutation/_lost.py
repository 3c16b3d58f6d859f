"""Cached tokens that are lost while an answer is decoded."""

from __future__ import annotations

import functools
from typing import Any

from _attention import allowed, as_mask, replace_kernel


def lose(model: Any, tokens: int, after: int) -> None:
    """Hide the first decoded tokens from every step after so many."""
    prompt = [0]

    def wrong(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        if prompt[0] and query.shape[2] == 1 and key.shape[2] - prompt[0] > after:
            seen = allowed(query, key, mask)
            seen[..., prompt[0] : prompt[0] + tokens] = False
            mask = as_mask(seen, query)
        return own(module, query, key, value, mask, **options)

    replace_kernel(model, wrong)
    own = model.generate

    @functools.wraps(own)
    def generate(input_ids: Any, **kwargs: Any) -> Any:
        prompt[0] = input_ids.shape[1]
        return own(input_ids, **kwargs)

    model.generate = generate
