"""Optimizations for tests: each changes the candidate in a known way. Registered by the hook, as a user would."""

from dataclasses import dataclass
from typing import ClassVar

from pytest_llmopt import AccuracyLimits, Promise


@dataclass(frozen=True)
class Planted:
    """What all of them share: they run on Transformers and need nothing."""

    promise: ClassVar[Promise] = Promise.EQUIVALENT
    requirements: ClassVar[tuple] = ()
    conflicts: ClassVar[dict] = {}

    def for_transformers(self, plan):
        plan.after_load.append(self.change)


@dataclass(frozen=True)
class SoftmaxScale(Planted):
    """The softmax scale of every layer off by a factor."""

    factor: float = 1.02

    def change(self, model):
        for layer in model.model.layers:
            layer.self_attn.scaling *= self.factor


@dataclass(frozen=True)
class OtherOrder(Planted):
    """The intermediate neurons in another order: the same function by another order of summation."""

    seed: int = 0

    def change(self, model):
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        for layer in model.model.layers:
            order = torch.randperm(layer.mlp.up_proj.out_features, generator=generator)
            for module in (layer.mlp.gate_proj, layer.mlp.up_proj):
                module.weight.data = module.weight.data[order]
            layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data[:, order]


@dataclass(frozen=True)
class Broken(Planted):
    """A load that the library refuses."""

    def change(self, _model):
        msg = "shapes of scales do not fit"
        raise ValueError(msg)


@dataclass(frozen=True)
class NotANumber(Planted):
    """One weight is NaN."""

    def change(self, model):
        model.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")


@dataclass(frozen=True)
class Rounded(Planted):
    """Weights rounded to some bits per row; with `shifted`, every zero point is one step off."""

    promise: ClassVar[Promise] = Promise.ACCURATE
    bits: int = 8
    shifted: bool = False

    @property
    def accuracy_limits(self):
        return AccuracyLimits(0.005, 0.97, 1.01, "8 bits are close to the original")

    def change(self, model):
        import torch

        for layer in model.model.layers:
            for module in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
                weight = module.weight.data
                scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (self.bits - 1) - 1)
                module.weight.data = (torch.round(weight / scale) + self.shifted) * scale


def pytest_llmopt_optimizations(config):
    return {
        "planted.softmax_scale": SoftmaxScale,
        "planted.other_order": OtherOrder,
        "planted.broken": Broken,
        "planted.not_a_number": NotANumber,
        "quantization.rounded": Rounded,
    }
