"""Weights of a tiny random model that make each of its parts matter."""
# Transformers and torch leave some methods untyped:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

from sizes import VOCABULARY

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SPREAD = 2.0
"""Standard deviation of the logits over the vocabulary, in nats: at 1,024 tokens an entropy of about 5 of 6.9."""
TOLERANCE = 0.1  # of the spread
SHIFT = 0.15  # standard deviation of what norms, biases and other vectors get added
EMBEDDINGS = (0.25, 0.05, 0.01)  # standard deviations, the first is tried first
MOST_REPEATED = 0.25  # share of positions that may predict the token just read
SCALINGS = 8
ZERO_CENTERED = 0.5
NOTICED = 1.2
PROBE_TOKENS = 48


def probe_tokens(seed: int) -> torch.Tensor:
    """Random token ids without special ones, `[1, 48]`."""
    import torch

    return torch.randint(3, VOCABULARY, (1, PROBE_TOKENS), generator=torch.Generator().manual_seed(seed))


def logits(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the model's own forward pass, without a cache: `[tokens, vocabulary]` of the first text."""
    import torch

    options = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    with torch.no_grad():
        return model(input_ids=tokens, **options).logits[0].float()


def spread_weights(model: PreTrainedModel, seed: int) -> torch.Tensor:
    """Give every weight a size at which it matters, and return the logits of the probe: `[tokens, vocabulary]`.

    Matrices get a standard deviation of 1/sqrt(inputs), so that a layer's output is about as large as what it adds to;
    norms, biases and other vectors are moved away from their defaults, since a bias of zero or a norm of one can be
    dropped unseen. Embeddings are made so small that the layers decide what comes next, not the token itself, which
    would win under a tied head.

    Raises:
        ValueError: the logits are not finite, or all the same.
    """
    tokens = probe_tokens(seed=0)
    for embedding in EMBEDDINGS:
        _draw_weights(model, seed, embedding)
        found = _scale_logits(model, tokens)
        if (found.argmax(-1) == tokens[0]).float().mean() < MOST_REPEATED:
            break
    return found


def _draw_weights(model: PreTrainedModel, seed: int, embedding: float) -> None:
    """Seeded weights; those that start from a default are moved once more by every call."""
    import torch

    random = torch.Generator().manual_seed(seed)
    embeddings = {id(model.get_input_embeddings().weight)}
    with torch.no_grad():
        for module in model.modules():
            for part in module.parameters(recurse=False):
                if not part.is_floating_point():
                    continue
                noise = torch.randn(part.shape, generator=random)
                if isinstance(module, torch.nn.Embedding) or id(part) in embeddings:
                    part.copy_(embedding * noise)
                elif part.dim() == 1 or 1 in part.shape[:-1] or isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
                    part.add_(SHIFT * noise)
                else:
                    part.copy_(noise / math.sqrt(part.shape[-1]))


def _scale_logits(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """Scale the head until logits spread as promised, or the norm before it where the head is the embedding."""
    import torch

    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    scaled = _last_norm(model, tokens) if tied or head is None else None
    if scaled is None and head is not None:
        scaled = head.weight
    plus_one = scaled is not None and scaled.dim() == 1 and _around_zero(scaled)
    for _ in range(SCALINGS):
        found = logits(model, tokens)
        spread = float(found.std(-1).mean())
        if not math.isfinite(spread) or spread == 0:
            msg = f"logits spread by {spread} nats; the weights need other sizes"
            raise ValueError(msg)
        if scaled is None or abs(spread / SPREAD - 1) < TOLERANCE:
            break
        factor = min(8.0, max(0.125, SPREAD / spread))
        with torch.no_grad():
            scaled.mul_(factor).add_(factor - 1 if plus_one else 0.0)
    return logits(model, tokens)


def _last_norm(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor | None:
    """Of the vectors outside all layers the one that spreads the logits most when it is doubled, or None."""
    import torch

    found, widest = None, float(logits(model, tokens).std(-1).mean()) * NOTICED
    for name, part in model.named_parameters():
        if part.dim() == 1 and name.endswith("weight") and not any(piece.isdigit() for piece in name.split(".")):
            kept = part.detach().clone()
            with torch.no_grad():
                part.mul_(2).add_(1.0 if _around_zero(kept) else 0.0)
                spread = float(logits(model, tokens).std(-1).mean())
                part.copy_(kept)
            if spread > widest:
                found, widest = part, spread
    return found


def _around_zero(norm: torch.Tensor) -> bool:
    """True of a norm that is applied as 1 + weight."""
    return bool(norm.mean().abs() < ZERO_CENTERED)
