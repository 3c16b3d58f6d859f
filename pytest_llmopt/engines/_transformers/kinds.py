"""Which models can be judged: decoders whose every position sees only what comes before it."""

from __future__ import annotations

import copy
import difflib
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import ModelError
from pytest_llmopt.core.model_files import check_quantization
from pytest_llmopt.core.quoting import explained, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

COPY = "correct it, or copy the one that came with the weights"
TOKENS = 8
"""Of the text whose last token is changed."""
ROUNDING = {"float32": 1e-4, "float64": 1e-6}
"""By how much of the largest logit an earlier one may move: experts that are given other tokens round otherwise."""
HALF = 5e-2
"""The same in 16 bits."""


def refuse_other_kinds(source: str, arguments: Mapping[str, Any]) -> None:
    """Accept a decoder that the library has, by its configuration.

    Args:
        source: folder or hub id.
        arguments: of `AutoConfig.from_pretrained`.

    Raises:
        ModelError: the configuration cannot be used, there is an encoder, or no causal language model of its kind.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig

    name = quoted(source)
    with explained(f"config.json of {name} cannot be used", COPY):
        stated, _ = PreTrainedConfig.get_config_dict(source, **arguments)
        _refuse_unknown_type(source, stated, trusted=bool(arguments.get("trust_remote_code")))
        config = AutoConfig.from_pretrained(source, **arguments)
    if getattr(config, "is_encoder_decoder", False):
        msg = f"{name} is an encoder-decoder ({config.model_type}): only decoders can be judged, so name one of these"
        raise ModelError(msg)
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not own_code:
        kind = next(iter(config.architectures or ()), config.model_type)
        msg = f"{name} is a {kind}, of which Transformers has no causal language model; name one that decodes texts"
        raise ModelError(msg)
    room = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(room, int) and room < 1 and not hasattr(config, "mem_len"):
        msg = f"config.json of {name} says max_position_embeddings={room}, which has no room for a token; {COPY}"
        raise ModelError(msg)
    place = f"quantization_config in config.json of {quoted(source)}"
    refuse_unknown_method(getattr(config, "quantization_config", None), place)


def refuse_unknown_method(stated: Any, source: str) -> None:
    """Accept a `quantization_config` of a method that the library has; of another it takes no notice.

    Args:
        stated: the config; looked at where it is a dictionary.
        source: where it is, for the message.

    Raises:
        ModelError: there is no such method, or its config cannot be built from what is stated.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as METHODS
    from transformers.quantizers.auto import AutoQuantizationConfig

    if not isinstance(stated, dict):
        return
    check_quantization(stated, source)
    method = str(stated.get("quant_method", ""))
    if method not in METHODS and not (stated.get("load_in_4bit") or stated.get("load_in_8bit")):
        known = sorted({name.removesuffix("_4bit").removesuffix("_8bit") for name in METHODS})
        near = difflib.get_close_matches(method.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near and near[0] != method else ""
        if method == "bitsandbytes":
            hint = "this method needs load_in_4bit or load_in_8bit beside its name; "
        msg = (
            f"{source} says quant_method={method!r}, which Transformers does not know; {hint}"
            f"it knows {', '.join(known)}; correct it, or install the package that adds it"
        )
        raise ModelError(msg)
    with explained(f"{source} cannot be used", COPY):
        AutoQuantizationConfig.from_dict(copy.deepcopy(stated))


def _refuse_unknown_type(source: str, stated: Mapping[str, Any], *, trusted: bool) -> None:
    """Accept a `model_type` that the library has, or that comes with code of its own that may be run."""
    import transformers

    kind = stated.get("model_type")
    known = transformers.CONFIG_MAPPING
    own_code = "AutoConfig" in (stated.get("auto_map") or {})
    if kind in known or (own_code and trusted):
        return
    if own_code:
        msg = (
            f"{quoted(source)} needs code of its own (auto_map in config.json, model_type={kind!r}); read it, then "
            "allow it with --llmopt-trust-remote-code"
        )
        raise ModelError(msg)
    near = difflib.get_close_matches(str(kind), list(known), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    msg = (
        f"config.json of {quoted(source)} says model_type={kind!r}, which Transformers {transformers.__version__} does "
        f"not know; {hint}correct it, or install a version that knows it"
    )
    raise ModelError(msg)


def refuse_bidirectional(source: str, model: Any) -> None:
    """Accept a causal model: another last token changes nothing before it.

    Raises:
        ModelError: it changes the logits of earlier positions, or the configuration says that it is no decoder.
    """
    moved = _moved(model)
    # Encoders that can also decode have `is_decoder`. Some decoders have it too, so it alone decides nothing; but dense
    # layers treat equal rows of equal shapes alike to the last bit, and none of these has experts.
    encodes = not getattr(model.config, "is_decoder", True)
    limit = 0.0 if encodes else ROUNDING.get(str(model.dtype).removeprefix("torch."), HALF)
    if moved is None and not encodes:
        return
    if moved is None or moved > limit:
        why = "" if moved is None else f" (the last token moves earlier logits by {moved:.2g} of the largest)"
        msg = (
            f"{quoted(source)} is bidirectional: its {type(model).__name__} looks at later tokens{why}, so it does not "
            "decode and cannot be judged; name a causal model, or set is_decoder where the architecture has it"
        )
        raise ModelError(msg)


def _moved(model: Any) -> float | None:
    """The most that earlier logits move, as a share of the largest; None where the model needs more than tokens."""
    import torch

    size = int(model.config.get_text_config().vocab_size)
    text = torch.arange(TOKENS, device=model.device)[None] * 7 % size
    other = text.clone()
    other[0, -1] = (other[0, -1] + size // 2 + 1) % size
    try:
        with torch.no_grad():
            both = [model(input_ids=ids, use_cache=False).logits[0, :-1].float() for ids in (text, other)]
    except Exception:  # noqa: BLE001 - a model that takes no bare tokens is for the scoring to refuse
        return None
    difference, largest = (both[0] - both[1]).abs().max(), both[0].abs().max()
    return float(difference / largest) if largest > 0 and bool(torch.isfinite(difference)) else None
