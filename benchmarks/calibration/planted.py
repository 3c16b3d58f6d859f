"""Optimizations for the studies on the zoo: benign ones that must pass, and small bugs of a known size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_llmopt import Promise

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class _Planted:
    promise: ClassVar[Promise] = Promise.EQUIVALENT
    requirements: ClassVar[tuple[Any, ...]] = ()
    conflicts: ClassVar[Mapping[str, str]] = {}

    def for_transformers(self, plan: Any) -> None:
        """Change the loaded model."""
        plan.after_load.append(self.change)


@dataclass(frozen=True)
class BatchSize(_Planted):
    """Other batch mates, and so other padding."""

    size: int = 1

    def for_transformers(self, plan: Any) -> None:
        """Decode so many prompts together."""
        plan.max_batch = self.size


@dataclass(frozen=True)
class Permuted(_Planted):
    """Neurons and residual channels in another order: the same function, and other rounding everywhere."""

    seed: int = 0

    def change(self, model: Any) -> None:
        """Permute."""
        from pytest_llmopt.engines._transformers.permuting import permute

        permute(model, self.seed)


@dataclass(frozen=True)
class SoftmaxScale(_Planted):
    """The softmax scale of every layer off by a factor."""

    factor: float = 1.02

    def change(self, model: Any) -> None:
        """Multiply."""
        for layer in model.model.layers:
            layer.self_attn.scaling *= self.factor


@dataclass(frozen=True)
class LostToken(_Planted):
    """The last token of the prompt is lost from the cache after some decode steps."""

    after: int = 8

    def change(self, model: Any) -> None:
        """Mask it away in every forward pass from then on."""
        width = 0

        def mask(_model: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            nonlocal width
            attended = kwargs.get("attention_mask")
            if kwargs["input_ids"].shape[1] > 1:
                width = kwargs["input_ids"].shape[1]
            elif attended is not None and attended.dim() == 2 and attended.shape[1] > width + self.after:  # noqa: PLR2004
                attended = attended.clone()
                attended[:, width - 1] = 0
                return args, kwargs | {"attention_mask": attended}
            return None

        model.register_forward_pre_hook(mask, with_kwargs=True)


@dataclass(frozen=True)
class WrongTemperature(_Planted):
    """Samples at another temperature than asked for."""

    factor: float = 0.9

    def change(self, model: Any) -> None:
        """Wrap `generate`."""
        own = model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            return own(*args, **kwargs | {"temperature": kwargs.get("temperature", 1.0) * self.factor})

        model.generate = generate


@dataclass(frozen=True)
class Rounded(_Planted):
    """The weights of every MLP rounded to some bits per row."""

    bits: int = 4

    def change(self, model: Any) -> None:
        """Round to the nearest."""
        for layer in model.model.layers:
            for module in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
                weight = module.weight.data
                scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (self.bits - 1) - 1)
                module.weight.data = (weight / scale).round() * scale
