"""From logits on a device to `TopLogprobs` on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.logprobs import TopLogprobs

if TYPE_CHECKING:
    import torch


def top_logprobs(logits: torch.Tensor, token_ids: torch.Tensor, top_k: int) -> TopLogprobs:
    """The evidence in logits `[tokens, vocabulary]` about the tokens `[tokens]` that were there.

    Normalized in float32, or in float64 for a float64 model; the top k come out most probable first. Takes one array of
    the logits' shape beside them, in that precision. The highest logit is subtracted first, as in `log_softmax`: the
    logarithm of the sum is then small, and rounds to less than that of the raw logits would.
    """
    import torch

    whole = top_k >= logits.shape[-1] and logits.device.type == "cpu" and logits.dtype != torch.float64
    top_values, top_ids = _sorted(logits) if whole else logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
    highest = top_values[:, :1].to(precision)
    shifted = logits - highest if logits.dtype == precision else logits.to(precision).sub_(highest)
    # A token that the model has no logit for is impossible, and no reason to stop looking at the others.
    known = (token_ids >= 0) & (token_ids < logits.shape[-1])
    token_scores = shifted.gather(-1, token_ids.where(known, 0)[:, None]).masked_fill_(~known[:, None], -float("inf"))
    log_total = shifted.exp_().sum(dim=-1, keepdim=True).log_()
    return TopLogprobs(
        token_ids=token_ids.cpu().numpy().astype(np.int64),
        token_logprobs=(token_scores - log_total)[:, 0].cpu().numpy(),
        top_ids=top_ids.cpu().numpy().astype(np.int32),
        top_logprobs=(top_values.to(precision) - highest - log_total).cpu().numpy(),
        vocab_size=int(logits.shape[-1]),
    )


def _sorted(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All logits of each position, the highest first, and their tokens; of equal ones the lower token first.

    Each logit becomes a whole number in the same order, with its token in the low bits, and numpy sorts these: a third
    of what torch takes for a whole vocabulary on a processor.
    """
    import torch

    bits = logits.detach().to(torch.float32).contiguous().numpy().view(np.int32)
    upward = np.where(bits < 0, bits ^ np.int32(2**31 - 1), bits).astype(np.int64)
    width = int(logits.shape[-1] - 1).bit_length()
    keys = (-upward << width) | np.arange(logits.shape[-1])
    keys.sort(axis=-1)
    ids = torch.from_numpy(keys & (2**width - 1))
    return logits.gather(-1, ids), ids
