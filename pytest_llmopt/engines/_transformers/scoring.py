"""Teacher forcing: one forward pass of the body, the vocabulary projection in chunks."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.engines._transformers.evidence import top_logprobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmopt.core.engine import Continuation
    from pytest_llmopt.engines._transformers.loading import Loaded

BATCH_TOKENS = 4096
"""Tokens, padding included, in one forward pass."""
LOGITS_AT_ONCE = 2**23
"""Logits held at once: 32 MiB in float32, whatever the length of the input and the size of the vocabulary."""


def score(loaded: Loaded, continuations: Sequence[Continuation], top_k: int) -> list[TopLogprobs]:
    """The log-probabilities of each continuation's tokens, in the order given."""
    import torch

    scored: dict[int, TopLogprobs] = {}
    # Teacher forcing is not the path that a compiled candidate is judged on; compiling its shapes would cost minutes.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for places in _batches(continuations):
            batch = [continuations[place] for place in places]
            scored.update(zip(places, _score_batch(loaded, batch, top_k), strict=True))
    return [scored[place] for place in range(len(continuations))]


def _batches(continuations: Sequence[Continuation]) -> Iterator[list[int]]:
    """Places of continuations of similar length, so that little of a batch is padding."""
    batch: list[int] = []
    for place in sorted(range(len(continuations)), key=lambda place: len(continuations[place])):
        if batch and (len(batch) + 1) * len(continuations[place]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _score_batch(loaded: Loaded, batch: Sequence[Continuation], top_k: int) -> list[TopLogprobs]:
    import torch

    device = loaded.model.device
    longest = max(map(len, batch))
    input_ids = torch.full((len(batch), longest), loaded.pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    rows: list[int] = []
    positions: list[int] = []
    for row, item in enumerate(batch):
        # Padding goes to the right, where a causal model cannot see it.
        input_ids[row, : len(item)] = torch.tensor(item.prompt_ids + item.token_ids)
        attention_mask[row, : len(item)] = 1
        rows += [row] * len(item.token_ids)
        positions += range(len(item.prompt_ids) - 1, len(item) - 1)
    targets = torch.tensor([token for item in batch for token in item.token_ids], device=device)
    inputs = {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device), "use_cache": False}
    body = loaded.model.base_model
    output = body(**inputs, return_dict=True)
    hidden = output.last_hidden_state[rows, positions]
    vocab_size = loaded.model.get_output_embeddings().weight.shape[0]
    step = max(1, LOGITS_AT_ONCE // vocab_size)
    parts = []
    for start in range(0, len(targets), step):
        chunk = hidden[None, start : start + step]
        with _replaying(body, output, chunk):
            logits = loaded.model(input_ids=inputs["input_ids"][:1, :1], use_cache=False, return_dict=True).logits
        parts.append(top_logprobs(logits[0], targets[start : start + step], top_k))
    together = TopLogprobs.concatenate(parts)
    ends = torch.tensor([len(item.token_ids) for item in batch]).cumsum(0).tolist()
    return [together[end - len(item.token_ids) : end] for item, end in zip(batch, ends, strict=True)]


@contextmanager
def _replaying(body: Any, output: Any, hidden: Any) -> Iterator[None]:
    """Let the model's own forward run on given hidden states: its head, soft-capping and scaling, not its body."""
    replay = copy.copy(output)
    replay["last_hidden_state"] = hidden
    own = body.__dict__.get("forward")
    body.forward = lambda *_args, **_kwargs: replay
    try:
        yield
    finally:
        if own is None:
            del body.forward
        else:
            body.forward = own
