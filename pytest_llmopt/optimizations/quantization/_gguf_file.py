"""GGUF files: written from a checkpoint, and read back by a decoder that is not the one under test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmopt.core.errors import ModelError, OptionError
from pytest_llmopt.core.quoting import explained, quoted
from pytest_llmopt.optimizations.quantization._unpacked import body_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.applying import ModelSource


NAME = "model.gguf"
VERSIONS = (2, 3)
WRITTEN = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "MXFP4")
"""Types that the gguf package can write; K-quants it can only read."""
BLOCKS = {
    # By type: weights of a block, and bytes of it.
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2),
    "Q8_0": (32, 34), "Q5_1": (32, 24), "Q5_0": (32, 22), "Q4_1": (32, 20), "Q4_0": (32, 18), "MXFP4": (32, 17),
    "Q6_K": (256, 210), "Q5_K": (256, 176), "Q4_K": (256, 144), "Q3_K": (256, 110), "Q2_K": (256, 84),
    "IQ4_NL": (32, 18), "IQ4_XS": (256, 136), "IQ3_S": (256, 110), "IQ3_XXS": (256, 98), "IQ2_S": (256, 82),
    "IQ2_XS": (256, 74), "IQ2_XXS": (256, 66), "IQ1_M": (256, 56), "IQ1_S": (256, 50),
    "TQ1_0": (256, 54), "TQ2_0": (256, 66),
}  # fmt: skip
BYTES = {name: size / weights for name, (weights, size) in BLOCKS.items()}
"""Bytes for each weight, scales included."""
DERIVED = ("rope_freqs.", "rope_factors_")
"""Tensors that llama.cpp's converter computes from the configuration."""
ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3", "gemma2": "GEMMA2"}
"""By `model_type`, the architectures whose tensors are written as llama.cpp's converter writes them."""


def write(plan: ModelSource, file: Path, quant_type: str) -> None:
    """Write a plan's model: linear layers in a type, all else in 32 bits.

    Raises:
        OptionError: the architecture is not known here, or a row is no whole number of blocks.
    """
    import gguf
    import torch
    from transformers import AutoModelForCausalLM

    source = {"local_files_only": not plan.policy.download}
    model = AutoModelForCausalLM.from_pretrained(plan.model, dtype=torch.float32, **source)
    config = model.config
    one = ARCHITECTURES.get(config.model_type)
    if one is None:
        msg = (
            f"cannot write a GGUF file of a {config.model_type!r}; allowed: {', '.join(ARCHITECTURES)}; "
            "make it with llama.cpp's convert_hf_to_gguf.py and give it as file="
        )
        raise OptionError(msg)
    body = body_of(model)
    block = BLOCKS[quant_type][0]
    for name, module in body.items():
        if module.in_features % block:
            msg = f"{quant_type} has blocks of {block}, which do not divide the {module.in_features} columns of {name}"
            raise OptionError(msg)
    architecture = gguf.MODEL_ARCH[one]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    writer = gguf.GGUFWriter(str(file), gguf.MODEL_ARCH_NAMES[architecture])
    _describe(writer, config)
    tied = config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        values = _as_llama_cpp_has_it(name, tensor.numpy(), config)
        kind = quant_type if name.removesuffix(".weight") in body else "F32"
        kind_id = gguf.GGMLQuantizationType[kind]
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(written, gguf.quantize(values, kind_id), raw_dtype=kind_id)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def is_there(file: str) -> bool:
    """Whether a path is one of a file; a name that no file can have is none."""
    try:
        return Path(file).is_file()
    except OSError:
        return False


def refuse_other_files(file: Path) -> None:
    """Accept what begins as a GGUF file of a version that is read.

    Raises:
        ModelError: it does not.
    """
    with file.open("rb") as opened:
        start = opened.read(8)
    version = int.from_bytes(start[4:], "little")
    if start[:4] != b"GGUF" or len(start) < 8 or version not in VERSIONS:  # noqa: PLR2004 - bytes
        found = f"of version {version}" if start[:4] == b"GGUF" else "another kind of file"
        msg = (
            f"{quoted(str(file))} is no GGUF file that can be read ({'empty' if not start else found}); download or "
            "convert it again"
        )
        raise ModelError(msg)


def type_of(file: Path) -> str:
    """The type that most weights of the linear layers have.

    Raises:
        ModelError: there are none, or the file cannot be read.
    """
    sizes: Counter[str] = Counter()
    for tensor in _tensors(file):
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1:
            sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    if not sizes:
        msg = f"{quoted(str(file))} has no layers of a language model; convert it again"
        raise ModelError(msg)
    return sizes.most_common(1)[0][0]


def stored_bytes_per_weight(model: Any, file: Path) -> float:
    """Bytes that the file holds for each weight of the body of a model."""
    stored = [tensor for _module, tensor in _pairs(model, file)]
    return sum(int(item.n_bytes) for item in stored) / max(1, sum(int(item.n_elements) for item in stored))


def as_decoded(model: Any, file: Path) -> float:
    """The share of projections whose columns hold the values that the gguf package decodes, in any order of rows.

    The order differs where llama.cpp rotates other pairs of channels; a wrong order shows in the divergence.
    """
    import gguf
    import torch

    matching = 0
    for module, tensor in _pairs(model, file):
        decoded = gguf.dequantize(tensor.data, tensor.tensor_type)
        held = module.weight.detach()
        slack = 1e-6 if held.dtype == torch.float32 else 2**-7
        ordered = np.sort(held.float().cpu().numpy(), axis=0), np.sort(decoded, axis=0)
        matching += ordered[0].shape == ordered[1].shape and np.allclose(*ordered, rtol=slack, atol=1e-12)
    return matching / max(1, len(body_of(model)))


def refuse_left_over(model: Any, file: Path) -> None:
    """Accept a file of which every tensor has its place in the model; the library passes over what has none.

    Where the architecture fuses tensors, so that names do not map one to one, only the number of layers is compared.

    Raises:
        ModelError: naming what is left over.
    """
    names = _names(model, file)
    stored = [tensor.name for tensor in _tensors(file)]
    mapped = [names.get_name(name, try_suffixes=(".weight", ".bias")) for name in model.state_dict()]
    if None in mapped:
        layers = int(model.config.num_hidden_layers)
        extra = [name for name in stored if name.startswith("blk.") and int(name.split(".")[1]) >= layers]
    else:
        extra = [name for name in stored if name not in mapped and not name.startswith(DERIVED)]
    if extra:
        msg = (
            f"{file} does not belong to this model: {len(extra)} of its tensors are nowhere in the model "
            f"({', '.join(extra[:3])}); name the file of this very model, or the model of this file"
        )
        raise ModelError(msg)


def _names(model: Any, file: Path) -> Any:
    """The library's map from names of parameters to those of a file."""
    import gguf

    architecture = next(
        key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == _metadata(file, "general.architecture")
    )
    return gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)


def _pairs(model: Any, file: Path) -> Iterator[tuple[Any, Any]]:
    """Every projection with the tensor of the file that it comes from."""
    names = _names(model, file)
    stored = {tensor.name: tensor for tensor in _tensors(file)}
    for name, module in body_of(model).items():
        tensor = stored.get(f"{names.get_name(name)}.weight")
        if tensor is not None:
            yield module, tensor


def _tensors(file: Path) -> Any:
    return _reader(file).tensors


def _metadata(file: Path, key: str) -> Any:
    field = _reader(file).get_field(key)
    if field is None:
        msg = f"{quoted(str(file))} does not say its {key}; convert it again"
        raise ModelError(msg)
    return field.contents()


def _reader(file: Path) -> Any:
    import gguf

    with explained(f"{quoted(str(file))} cannot be read as a GGUF file", "download or convert it again"):
        return gguf.GGUFReader(str(file))


def _describe(writer: Any, config: Any) -> None:
    """The keys that a reader needs to build the model."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_sliding_window(config.sliding_window)


def _as_llama_cpp_has_it(name: str, values: Any, config: Any) -> Any:
    """A tensor in the layout of llama.cpp: rotated pairs side by side in Llama, norms with their 1 added in Gemma."""
    if config.model_type == "gemma2" and name.endswith("norm.weight"):
        return values + 1
    if config.model_type in {"llama", "mistral"} and name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        return values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
    return values
