"""Small quantizers for the zoo, honest ones: a mutant overrides one small method of them and so has the bug there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from mutation import Mutant
from torch import nn
from torch.nn.functional import linear

from pytest_llmopt import Promise
from pytest_llmopt.core.claims import Claim
from pytest_llmopt.core.loading import fixtures_folder
from pytest_llmopt.core.optimization import AccuracyLimits
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.verdict import Estimate, Metric, Tolerance
from pytest_llmopt.core.weight_format import WeightFormat
from pytest_llmopt.optimizations.quantization._weight_claims import LEAST_KL, LEAST_KL_16, weight_claims

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from pytest_llmopt.core.claims import Use

CALIBRATION_PROMPTS = 8
LEAST_SCALE = 1e-6
"""Of a group of weights that are all zero."""
CODES_8 = (-128, 127)


@dataclass(frozen=True)
class Seen:
    """What a linear layer was given while the model read the calibration prompts."""

    low: float
    high: float
    squares: Tensor
    """Mean square of each input column: the diagonal of the Hessian that act-order sorts by. `[in]`."""


class W4Linear(nn.Module):
    """A linear layer that holds integer codes, two to a byte at 4 bits, with float16 scales for groups of columns.

    It is quantized here, always rightly; what is read back and computed is up to the scheme.
    """

    def __init__(self, source: nn.Linear, name: str, scheme: WeightQuantizer, seen: Seen | None) -> None:
        super().__init__()
        self.name = name
        self.scheme = scheme
        self.seen = seen
        self.out_features, self.in_features = source.weight.shape
        size = scheme.group if scheme.group > 0 else self.in_features
        groups = torch.arange(self.in_features) // size
        if scheme.act_order and seen is not None:
            groups[seen.squares.argsort(descending=True)] = groups.clone()
        codes, scales, zeros = _quantized(source.weight.detach().float(), groups, scheme)
        self.register_buffer("weight", codes if scheme.bits == 8 else codes[:, 0::2] | codes[:, 1::2] << 4)  # noqa: PLR2004
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", zeros)
        self.register_buffer("g_idx", groups.to(torch.int16) if scheme.act_order else None)
        self.register_buffer("bias", None if source.bias is None else source.bias.detach().clone())

    @property
    def group_size(self) -> int:
        """Neighboring columns, in the order of the groups, that share a scale."""
        return self.in_features // self.scales.shape[1]

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        return self.scheme.forward(self, hidden)


def _quantized(weight: Tensor, groups: Tensor, scheme: WeightQuantizer) -> tuple[Tensor, Tensor, Tensor | None]:
    """Unsigned codes `[out, in]`, scales `[out, groups]`, and zeros `[out, groups]` unless they are in the middle."""
    rows = weight[:, groups.argsort(stable=True)].unflatten(1, (int(groups.max()) + 1, -1))
    low, high = rows.amin(-1).clamp(max=0), rows.amax(-1).clamp(min=0)
    if scheme.group < 0:
        low, high = low.amin().expand_as(low[:1, :1]), high.amax().expand_as(high[:1, :1])
    top = 2**scheme.bits - 1
    step = torch.maximum(-low, high) / (top // 2) if scheme.symmetric else (high - low) / top
    scales = step.clamp(min=LEAST_SCALE).half()
    zeros = torch.full_like(step, top // 2 + 1) if scheme.symmetric else (-low / scales.float()).round().clamp(0, top)
    codes = (weight / scales.float()[:, groups] + zeros[:, groups]).round().clamp(0, top)
    return codes.to(torch.uint8), scales, None if scheme.symmetric else zeros.to(torch.uint8)


@dataclass(frozen=True)
class WeightQuantizer(Mutant):
    """Every linear layer of attention and MLP in few bits, rounded to nearest; the head and the embedding stay."""

    promise: ClassVar[Promise] = Promise.ACCURATE
    conflicts: ClassVar[Mapping[str, str]] = {"quantization": "a model is quantized once"}
    category: ClassVar[str] = "weight_quantization"
    honest: ClassVar[bool] = True

    bits: int = 4
    group: int = 32
    """Input columns that share a scale; 0 takes one scale for each output row, -1 one for the tensor."""
    symmetric: bool = False
    """The zero point is in the middle and is not stored."""
    act_order: bool = False
    """Group the columns by how large their activations are, not by where they stand (GPTQ's desc_act)."""

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """8 bits are hardly seen; 4 bits without calibration cost a few percent of perplexity."""
        if self.bits == 8:  # noqa: PLR2004
            return AccuracyLimits(0.002, 0.97, 1.01, "llama.cpp#6936: q8_0, perplexity x1.0004")
        return AccuracyLimits(0.05, 0.88, 1.05, "llama.cpp#12557: IQ4_XS, KL 0.043, top-1 90 %, perplexity x1.037")

    @property
    def bytes_per_weight(self) -> float:
        """The code, and its share of a scale in 16 bits and a zero in 8."""
        shared = self.group if self.group > 0 else 128
        return self.bits / 8 + (2 if self.symmetric else 3) / shared

    @property
    def weight_format(self) -> WeightFormat | None:
        """What the fields say."""
        return WeightFormat(
            self.bits,
            "symmetric" if self.symmetric else "asymmetric",
            group_size={0: "channel", -1: "tensor"}.get(self.group, self.group),
            act_order=self.act_order,
        )

    def claims(self, use: Use) -> Sequence[Claim]:
        """Every projection of the body holds as few bytes as promised."""
        return weight_claims(use, self.bytes_per_weight)

    def change(self, model: Any) -> None:
        """Replace the layers."""
        chosen = dict(self.modules(model))
        seen = _observed(model, chosen) if self.needs_calibration else {}
        for name, module in chosen.items():
            model.set_submodule(name, W4Linear(module, name, self, seen.get(name)).to(module.weight.device))

        def save_pretrained(*_args: object, **_options: object) -> None:
            msg = "these quantizers write no checkpoints"
            raise NotImplementedError(msg)

        model.save_pretrained = save_pretrained

    @property
    def needs_calibration(self) -> bool:
        """Whether it has to see activations before it can quantize."""
        return self.act_order

    def modules(self, model: Any) -> Iterator[tuple[str, nn.Linear]]:
        """What to replace."""
        head = model.get_output_embeddings()
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and module is not head:
                yield name, module

    def codes(self, layer: W4Linear) -> Tensor:
        """`[out, in]`, unpacked."""
        packed = layer.weight
        if self.bits == 4:  # noqa: PLR2004
            packed = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)
        return packed.float()

    def scales(self, layer: W4Linear) -> Tensor:
        """`[out, groups]`, or `[1, 1]`."""
        return layer.scales.float()

    def zeros(self, layer: W4Linear) -> Tensor:
        """The code that stands for 0: `[out, groups]`."""
        return (
            torch.full_like(layer.scales, 2 ** (self.bits - 1)).float() if layer.zeros is None else layer.zeros.float()
        )

    def group_of(self, layer: W4Linear) -> Tensor:
        """The group of each column: `[in]`."""
        return torch.arange(layer.in_features) // layer.group_size if layer.g_idx is None else layer.g_idx.long()

    def dequantize(self, layer: W4Linear) -> Tensor:
        """The weights again: `[out, in]`."""
        groups = self.group_of(layer)
        return (self.codes(layer) - self.zeros(layer).index_select(1, groups)) * self.scales(layer).index_select(
            1, groups
        )

    def bias(self, layer: W4Linear) -> Tensor | None:
        """`[out]`, where it has one."""
        return layer.bias

    def product(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """Without the bias."""
        return linear(hidden, self.dequantize(layer).to(hidden.dtype))

    def forward(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """What the kernel gives."""
        output, bias = self.product(layer, hidden), self.bias(layer)
        return output if bias is None else output + bias


@dataclass(frozen=True)
class ActivationQuantizer(WeightQuantizer):
    """Weights in few bits, and int8 activations: one scale for each token, or a fixed one with a zero point."""

    category: ClassVar[str] = "activation_quantization"
    honest: ClassVar[bool] = True
    activations: ClassVar[str] = "int8"

    static: bool = False
    """One scale and one zero point for all tokens, from the calibration prompts."""

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """What the weights may cost, and about as much as 8 bits for the activations."""
        own = super().accuracy_limits
        extra = 0.01 if self.static else 0.005
        source = f"{own.source}; activations: SmoothQuant, arXiv:2211.10438: W8A8 within 1 %"
        return AccuracyLimits(own.kl_divergence + extra, own.top1_agreement - 0.02, own.perplexity_ratio + 0.01, source)

    @property
    def weight_format(self) -> WeightFormat | None:
        """None with a fixed scale: it clips inputs that calibration never saw, as those of a probe are."""
        own = super().weight_format
        return None if own is None or self.static else replace(own, activations="int8")

    @property
    def needs_calibration(self) -> bool:
        """A fixed scale comes from what was seen."""
        return self.static or self.act_order

    def activation_scale(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """`[..., 1]` for each token, or one."""
        if self.static:
            return hidden.new_tensor((layer.seen.high - layer.seen.low) / 255)
        return hidden.abs().amax(-1, keepdim=True).clamp(min=LEAST_SCALE) / 127

    def activation_zero(self, layer: W4Linear, scale: Tensor) -> Tensor:
        """The code that stands for 0."""
        return (-128 - layer.seen.low / scale).round() if self.static else torch.zeros_like(scale)

    def product(self, layer: W4Linear, hidden: Tensor) -> Tensor:
        """Round the activations, multiply the codes, scale back."""
        scale = self.activation_scale(layer, hidden)
        zero = self.activation_zero(layer, scale)
        return scale * self.multiply(layer, (hidden / scale + zero).round().clamp(*CODES_8), zero)

    def multiply(self, layer: W4Linear, codes: Tensor, zero: Tensor) -> Tensor:
        """Activation codes by weights, less what the zero point adds to every sum."""
        weight = self.dequantize(layer).to(codes.dtype)
        return linear(codes, weight) - zero * weight.sum(-1)


@dataclass(frozen=True)
class Export(WeightQuantizer):
    """A checkpoint converted to another format, as GGUF's Q8_0 does: 8 bits, groups of 32, no zero points."""

    category: ClassVar[str] = "export"
    honest: ClassVar[bool] = True

    bits: int = 8
    symmetric: bool = True


@dataclass(frozen=True)
class CacheQuantizer(Mutant):
    """Keys and values rounded as they are written into the cache, so in prefill and in decode.

    float8 has one fixed scale for the keys and one for the values of a layer, as vLLM's checkpoints do; integers have
    one for each token and head. The values are held in full after rounding: what is saved cannot be seen here.
    """

    promise: ClassVar[Promise] = Promise.ACCURATE
    category: ClassVar[str] = "activation_quantization"
    honest: ClassVar[bool] = True

    stored_as: str = "float8_e4m3fn"
    bits: int = 8
    """Of integers."""

    @property
    def activations(self) -> str:
        """What the cache is rounded to."""
        return "int8" if self.stored_as == "int8" else "fp8"

    @property
    def accuracy_limits(self) -> AccuracyLimits:
        """8 bits are within a percent; 4 bits cost as much as 4-bit weights do."""
        if self.bits == 4:  # noqa: PLR2004
            return AccuracyLimits(0.05, 0.85, 1.05, "KIVI, arXiv:2402.02750: caches of 4 bits")
        if self.stored_as == "int8":
            return AccuracyLimits(0.005, 0.96, 1.01, "KVQuant, arXiv:2401.18079: 8 bits lose nothing")
        return AccuracyLimits(0.01, 0.94, 1.02, "vLLM documentation, Quantized KV Cache: fp8 with calibrated scales")

    def claims(self, use: Use) -> Sequence[Claim]:
        """It can be told from the reference."""
        least = LEAST_KL.get(use.dtype, LEAST_KL_16)
        estimate = Estimate.exact(float(use.divergence.mean()), len(use.divergence))
        return (
            Claim("kl_divergence", Metric(estimate, Tolerance(at_least=least), "nats/token"), "nothing is rounded"),
        )

    @property
    def most(self) -> float:
        """The largest code."""
        return 2 ** (self.bits - 1) - 1 if self.stored_as == "int8" else torch.finfo(torch.float8_e4m3fn).max

    def change(self, model: Any) -> None:
        """Put the rounding between each attention and its cache."""
        for layer, ranges in zip(model.model.layers, _cache_ranges(model), strict=True):
            layer.self_attn.forward = partial(self.attend, layer.self_attn.forward, ranges)

    def attend(self, own: Any, ranges: Mapping[str, float], *args: Any, **kwargs: Any) -> Any:
        """The attention of a layer with a cache that rounds."""
        cache = kwargs.pop("past_key_values", None)
        return own(*args, past_key_values=RoundedCache(cache, self, ranges), **kwargs)

    def scale(self, kind: str, states: Tensor, ranges: Mapping[str, float]) -> Tensor:
        """Of `keys` or `values`, `[batch, heads, tokens, width]`."""
        if self.stored_as == "int8":
            return states.abs().amax(-1, keepdim=True).clamp(min=LEAST_SCALE) / self.most
        return states.new_tensor(ranges[kind] / self.most)

    def write(self, states: Tensor, scale: Tensor) -> Tensor:
        """The codes."""
        codes = (states / scale).clamp(-self.most, self.most)
        return codes.round().to(torch.int8) if self.stored_as == "int8" else codes.to(torch.float8_e4m3fn)

    def read(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The states again."""
        return codes.to(scale.dtype) * scale

    def rounded(self, kind: str, states: Tensor, ranges: Mapping[str, float]) -> Tensor:
        """What attention gets for the states that it hands to the cache."""
        scale = self.scale(kind, states, ranges)
        return self.read(self.write(states, scale), scale)

    def update(self, cache: RoundedCache, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Write new keys and values; gives all that are there."""
        keys, values = self.rounded("keys", keys, cache.ranges), self.rounded("values", values, cache.ranges)
        return (keys, values) if cache.own is None else cache.own.update(keys, values, *args, **kwargs)


@dataclass(frozen=True, eq=False)
class RoundedCache:
    """Stands between one attention and the cache of the model, if there is one."""

    own: Any
    scheme: CacheQuantizer
    ranges: Mapping[str, float]
    """The largest key and the largest value of the layer, from the calibration prompts."""

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Called by the attention."""
        return self.scheme.update(self, keys, values, *args, **kwargs)


def _calibration_ids(model: Any) -> Tensor:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.config.name_or_path, local_files_only=True)
    prompts = PromptSet.load(fixtures_folder() / "prompts" / "calibration.jsonl").take(CALIBRATION_PROMPTS)
    rows = [tokenizer(prompt.text)["input_ids"] for prompt in prompts]
    return torch.tensor([row[: min(map(len, rows))] for row in rows])


def _observed(model: Any, modules: Mapping[str, nn.Linear]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}

    def look(name: str, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        hidden = args[0].flatten(0, -2).float()
        low, high = min(0.0, float(hidden.min())), max(0.0, float(hidden.max()))
        found[name] = Seen(low, high, hidden.square().mean(0))

    handles = [module.register_forward_pre_hook(partial(look, name)) for name, module in modules.items()]
    with torch.no_grad():
        model(_calibration_ids(model), use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def _cache_ranges(model: Any) -> list[dict[str, float]]:
    with torch.no_grad():
        cache = model(_calibration_ids(model), use_cache=True).past_key_values
    return [{kind: float(getattr(layer, kind).abs().max()) for kind in ("keys", "values")} for layer in cache.layers]
