"""Which models can be judged: decoders whose every position sees only what comes before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKENS = 8
"""Of the text whose last token is changed."""
ROUNDING = {"float32": 1e-4, "float64": 1e-6}
"""By how much of the largest logit an earlier one may move: experts that are given other tokens round otherwise."""
HALF = 5e-2
"""The same in 16 bits."""


def refuse_encoder_decoder(source: str, arguments: Mapping[str, Any]) -> None:
    """Accept a decoder, by its configuration.

    Args:
        source: folder or hub id.
        arguments: of `AutoConfig.from_pretrained`.

    Raises:
        ModelError: there is an encoder.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, **arguments)
    if getattr(config, "is_encoder_decoder", False):
        msg = f"{source} is an encoder-decoder ({config.model_type}): only decoders can be judged, so name one of these"
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
            f"{source} is bidirectional: its {type(model).__name__} looks at later tokens{why}, so it does not decode "
            "and cannot be judged; name a causal model, or set is_decoder where the architecture has it"
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
