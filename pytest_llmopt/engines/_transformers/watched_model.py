"""What a loaded model holds of its own: weights, hooks, what was put on its modules, its configuration."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.watching import Change
from pytest_llmopt.engines._transformers.footprint import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOOKS = ("_forward_pre_hooks", "_forward_hooks")
CONTAINERS = ("_parameters", "_buffers", "_modules", *HOOKS)


@dataclass(frozen=True)
class WatchedModel:
    """What a model held at one moment. It does not keep the model alive."""

    model: weakref.ref[Any]
    modules: Mapping[str, Mapping[str, Any]]
    """By module, what is said of it."""
    tensors: Mapping[str, int | None]
    """By name, a checksum of the bytes."""
    configuration: tuple[str, str]

    @classmethod
    def of(cls, model: Any) -> WatchedModel:
        """What it holds now."""
        return cls(weakref.ref(model), _modules(model), _tensors(model), _configuration(model))

    def changes(self) -> list[Change]:
        """What is otherwise now. None can be undone: another model is loaded instead."""
        model = self.model()
        return [] if model is None else [Change(what) for what in self._told(model)]

    def _told(self, model: Any) -> Iterator[str]:
        modules, tensors = _modules(model), _tensors(model)
        for name in sorted(self.modules.keys() | modules.keys()):
            was, now = self.modules.get(name, {}), modules.get(name, {})
            place = name or type(model).__name__
            for key in sorted(was.keys() | now.keys()):
                if was.get(key) != now.get(key):
                    yield f"the reference's own {place} has {_words(key, was, now)}"
        other = [name for name in self.tensors.keys() | tensors.keys() if self.tensors.get(name) != tensors.get(name)]
        if other:
            first = ", ".join(sorted(other)[:3])
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""  # noqa: PLR2004 - as many as are named
            yield f"the reference's own weights {first}{more} hold other values"
        if self.configuration != _configuration(model):
            yield "the reference's own configuration says something else"


def _words(key: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if key in HOOKS:
        return "another set of forward hooks"
    if key == "class":
        return f"another class: {now.get(key, 'none')}, was {was.get(key, 'none')}"
    if key in was and key in now and isinstance(now[key], (bool, float)):
        return f"another {key}: {now[key]}, was {was[key]}"
    return f"{'another' if key in was else 'a new'} {key}"


def _modules(model: Any) -> dict[str, dict[str, Any]]:
    return {name: dict(_facts(module)) for name, module in model.named_modules()}


def _facts(module: Any) -> Iterator[tuple[str, Any]]:
    """What decides how a module computes. Objects by identity: their contents are theirs to change."""
    yield "class", type(module)
    for name in HOOKS:
        yield name, tuple(map(id, getattr(module, name, {}).values()))
    for name, value in vars(module).items():
        if name in CONTAINERS or isinstance(value, type):
            continue
        if isinstance(value, (bool, float)):
            yield name, value
        elif callable(value):
            yield name, id(value)


def _tensors(model: Any) -> dict[str, int | None]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {
        f"{name}{f' ({place})' if place else ''}": _checksum(part)
        for name, tensor in named
        for place, part in enumerate(parts_of(tensor))
    }


def _checksum(tensor: Any) -> int | None:
    """A sum over the bytes of a tensor in which every row has a factor of its own; None where torch gives no bytes.

    Integers wrap around, so nothing is lost to rounding. One pass over the weights.
    """
    import torch

    if tensor.is_meta or not tensor.numel():
        return None
    plain = tensor.detach().as_subclass(torch.Tensor)
    widths = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    whole = plain if plain.element_size() in widths else torch.view_as_real(plain)
    try:
        bits = whole.view(widths[whole.element_size()])
    except (NotImplementedError, RuntimeError):  # sparse, or of a backend of its own: the answers have to tell
        return None
    rows = bits.reshape(bits.shape[0] if bits.ndim else 1, -1).sum(1, dtype=torch.int64)
    return int((rows * torch.arange(1, len(rows) + 1, device=rows.device)).sum())


def _configuration(model: Any) -> tuple[str, str]:
    generation = getattr(model, "generation_config", None)
    return str(model.config.to_dict()), "" if generation is None else str(generation.to_dict())
