"""How a mutant gets at the caches that one model uses."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from _attention import allowed, as_mask, replace_kernel

if TYPE_CHECKING:
    from collections.abc import Callable


def each_cache(model: Any, plant: Callable[[Any], None]) -> None:
    """Hand every cache to `plant` when the model first sees it."""
    known: weakref.WeakSet[Any] = weakref.WeakSet()

    def look(_body: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        if cache is not None and cache not in known:
            known.add(cache)
            plant(cache)

    model.model.register_forward_pre_hook(look, with_kwargs=True)


class Ahead:
    """Keys and values of a layer that nobody took away: every query sees them in front of those it should see."""

    def __init__(self, layer: Any) -> None:
        self.keys: Any = None
        self.values: Any = None
        self._own = layer.update
        layer.ahead = self
        layer.update = self.update

    @property
    def width(self) -> int:
        """How many there are."""
        return 0 if self.keys is None else int(self.keys.shape[2])

    def add(self, keys: Any, values: Any) -> None:
        """Keep more."""
        import torch

        self.keys = keys.clone() if self.keys is None else torch.cat([self.keys, keys], 2)
        self.values = values.clone() if self.values is None else torch.cat([self.values, values], 2)

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns, and in front of it what was kept."""
        import torch

        keys, values = self._own(*args, **kwargs)
        return (torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)) if self.width else (keys, values)


def see_what_is_ahead(model: Any, plant: Callable[[Any], None]) -> None:
    """Give every layer of every cache an `Ahead`, hand it to `plant(layer)`, and widen the masks by it."""
    current: list[Any] = [None]

    def look(_body: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        current[0] = kwargs.get("past_key_values")

    def plant_all(cache: Any) -> None:
        for layer in cache.layers:
            Ahead(layer)
            plant(layer)

    def widened(own: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        import torch

        width = current[0].layers[module.layer_idx].ahead.width if current[0] is not None else 0
        if width:
            seen = allowed(query, key[:, :, width:], mask)
            mask = as_mask(torch.cat([seen.new_ones(*seen.shape[:3], width), seen], 3), query)
        return own(module, query, key, value, mask, **options)

    each_cache(model, plant_all)
    model.model.register_forward_pre_hook(look, with_kwargs=True)
    replace_kernel(model, widened)
