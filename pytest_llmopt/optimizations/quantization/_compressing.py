"""Rounding to nearest through the compressed-tensors library, and a look at what it holds in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.optimizations.quantization._shapes import refuse_groups
from pytest_llmopt.optimizations.quantization._unpacked import body_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from pytest_llmopt.core.applying import ModelSource


def compress(
    plan: ModelSource, folder: Path, name: str, texts: Sequence[str], *, group_size: int | None, file_format: str | None
) -> None:
    """Write the checkpoint of a plan's model, rounded to nearest by a scheme of this name.

    Args:
        plan: names the model.
        folder: an empty one.
        name: of the scheme.
        texts: what fixed scales of activations come from; empty where there are none.
        group_size: of the scales, where it is not the scheme's own.
        file_format: how the file holds the weights, where it is not the scheme's own.

    Raises:
        OptionError: a group size does not divide the columns of a module.
    """
    import torch
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        QuantizationStatus,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        plan.model, dtype=getattr(torch, plan.dtype), device_map=plan.device, local_files_only=not plan.policy.download
    )
    scheme = preset_name_to_scheme(name, ["Linear"])
    scheme.format = file_format
    if group_size is not None:
        scheme.weights.group_size = group_size
    if scheme.weights.strategy == "group":
        refuse_groups(plan, scheme.weights.group_size)
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"])
    apply_quantization_config(model, config, show_progress=False)
    for module in body_of(model).values():
        _set_scale(module, "weight", module.weight.data, scheme.weights)
    if texts:
        _calibrate(model, plan, texts, scheme.input_activations)
    for module in body_of(model).values():
        module.quantization_status = QuantizationStatus.FROZEN
        if file_format == "dense":
            _round(module, scheme.weights)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(str(folder))
    compressor.update_config(str(folder))


def on_grid(model: Any) -> float:
    """The share of projections whose weights are all a code of the scheme times the scale that lies beside them."""
    body = body_of(model)
    return sum(_is_on_grid(module) for module in body.values()) / max(1, len(body))


def _is_on_grid(module: Any) -> bool:
    import torch

    scheme, scale = getattr(module, "quantization_scheme", None), getattr(module, "weight_scale", None)
    if scheme is None or scale is None or not module.weight.is_floating_point():
        return False
    weight = _groups(module.weight.detach(), scheme.weights).float()
    scale = scale.detach().float().reshape((-1, 1) if scale.numel() == 1 else (*scale.shape, 1))
    scale = scale.squeeze(-2) if weight.dim() < scale.dim() else scale
    zero = getattr(module, "weight_zero_point", None)
    shift = 0 if zero is None or zero.shape != module.weight_scale.shape else zero.float().reshape(scale.shape)
    if scheme.weights.type == "float":
        code = (weight / scale).to(torch.float8_e4m3fn).float()
    else:
        half = 2 ** (scheme.weights.num_bits - 1)
        code = torch.clamp(torch.round(weight / scale + shift), -half, half - 1) - shift
    # In 16 bits the product of code and scale is rounded once more.
    slack = 1e-5 if module.weight.dtype == torch.float32 else 2**-7
    return bool(torch.isclose(code * scale, weight, rtol=slack, atol=0).all())


def _groups(weight: Tensor, args: Any) -> Tensor:
    """The weights with those that share a scale in the last dimension."""
    import torch

    if args.strategy == "tensor":
        return weight.reshape(1, -1)
    if args.strategy == "group":
        return weight.unflatten(1, (-1, args.group_size))
    if args.strategy == "block":
        rows, columns = args.block_structure
        filled = torch.nn.functional.pad(weight, (0, -weight.shape[1] % columns, 0, -weight.shape[0] % rows))
        return filled.unflatten(0, (-1, rows)).unflatten(2, (-1, columns)).transpose(1, 2).flatten(2)
    return weight


def _set_scale(module: Any, name: str, value: Tensor, args: Any) -> None:
    from compressed_tensors.quantization.utils import calculate_qparams

    groups = _groups(value, args)
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    for held, found in ((f"{name}_scale", scale), (f"{name}_zero_point", zero)):
        if hasattr(module, held):
            parameter = getattr(module, held)
            parameter.data = found.reshape(parameter.shape).to(parameter.dtype)


def _round(module: Any, args: Any) -> None:
    """Put the rounded weights in place of the weights: the library's dense format writes what is there."""
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize

    zero = module.weight_zero_point
    module.weight.data = fake_quantize(module.weight.data, module.weight_scale, zero, args)
    del module.weight_zero_point


def _calibrate(model: Any, plan: ModelSource, texts: Sequence[str], args: Any) -> None:
    """Static scales of inputs, by the largest values that the calibration text leads to."""
    import torch
    from transformers import AutoTokenizer

    seen: dict[Any, Tensor] = {}

    def look(module: Any, inputs: tuple[Tensor, ...]) -> None:
        extremes = torch.stack(inputs[0].detach().aminmax())
        both = torch.stack([seen.get(module, extremes), extremes])
        seen[module] = torch.stack([both[:, 0].min(), both[:, 1].max()])

    body = list(body_of(model).values())
    handles = [module.register_forward_pre_hook(look) for module in body]
    tokenizer = AutoTokenizer.from_pretrained(plan.model, local_files_only=not plan.policy.download)
    for module in body:
        module.quantization_enabled = False
    with torch.no_grad():
        for text in texts:
            model(**tokenizer(text, return_tensors="pt").to(model.device))
    for handle in handles:
        handle.remove()
    for module in body:
        del module.quantization_enabled
        _set_scale(module, "input", seen[module], args)
