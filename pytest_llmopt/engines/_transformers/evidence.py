"""From logits on a device to `TopLogprobs` on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_llmopt.core.logprobs import TopLogprobs

if TYPE_CHECKING:
    import torch


def top_logprobs(logits: torch.Tensor, token_ids: torch.Tensor, top_k: int) -> TopLogprobs:
    """The evidence in logits `[tokens, vocabulary]` about the tokens `[tokens]` that were there.

    Normalized in float32, or in float64 for a float64 model; the top k come out most probable first.
    """
    import torch

    precise = logits if logits.dtype == torch.float64 else logits.float()
    logprobs = precise.log_softmax(dim=-1)
    top = logprobs.topk(min(top_k, logprobs.shape[-1]), dim=-1)
    token_logprobs = logprobs.gather(-1, token_ids[:, None])[:, 0]
    return TopLogprobs(
        token_ids=token_ids.cpu().numpy().astype(np.int64),
        token_logprobs=token_logprobs.cpu().numpy(),
        top_ids=top.indices.cpu().numpy().astype(np.int32),
        top_logprobs=top.values.cpu().numpy(),
        vocab_size=int(logprobs.shape[-1]),
    )
