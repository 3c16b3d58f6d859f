"""What a tiny random model does in its first forward pass."""
# Transformers and torch leave some methods untyped:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sizes import VOCABULARY
from weights import logits, probe_tokens

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ROUNDING = 1e-3  # in a logit: what the order of sums may change


@dataclass(frozen=True)
class Sight:
    """What a saved copy does in its first forward pass."""

    model_class: str
    parameters: int
    entropy: float  # nats/token, mean over positions
    reload_error: float  # the largest difference between logits before saving and after loading
    is_causal: bool  # no logits change when the last token does, but its own
    unfelt: tuple[str, ...]  # weights that change no logit when they are zero


def look(loaded: PreTrainedModel, before: torch.Tensor) -> Sight:
    """What a model does that was saved when its probe had these logits."""
    after = logits(loaded, probe_tokens(seed=0))
    return Sight(
        type(loaded).__name__,
        sum(part.numel() for part in loaded.parameters()),
        _entropy(after),
        float((after - before).abs().max()),
        is_causal=_is_causal(loaded),
        unfelt=_unfelt(loaded, after),
    )


def _entropy(found: torch.Tensor) -> float:
    logprobs = found.double().log_softmax(-1)
    return float(-(logprobs.exp() * logprobs).sum(-1).mean())


def _is_causal(model: PreTrainedModel) -> bool:
    """True if another last token leaves all logits before it as they are."""
    tokens = probe_tokens(seed=0)
    other = tokens.clone()
    other[0, -1] = (int(tokens[0, -1]) + 1 - 3) % (VOCABULARY - 3) + 3
    difference = (logits(model, tokens) - logits(model, other))[:-1].abs().max()
    return bool(difference < ROUNDING)


def _unfelt(model: PreTrainedModel, before: torch.Tensor) -> tuple[str, ...]:
    """Names of the weights that the probe does not feel, such as those of an indexer that selects every token."""
    import torch

    tokens, names = probe_tokens(seed=0), []
    for name, part in model.named_parameters():
        kept = part.detach().clone()
        with torch.no_grad():
            part.zero_()
            if float((logits(model, tokens) - before).abs().max()) < ROUNDING:
                names.append(name)
            part.copy_(kept)
    return tuple(names)
