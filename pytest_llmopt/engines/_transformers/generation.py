"""Decoding through the library's own `generate`, with the logits that it acted on."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.engine import Generation, SamplingParams, Timing, TokenIds
from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.engines._transformers.evidence import top_logprobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from pytest_llmopt.engines._transformers.loading import Loaded

BATCH = 8
"""Prompts decoded together where the optimizations allow it."""


def generate(
    loaded: Loaded, prompts: Sequence[TokenIds], sampling: SamplingParams, max_length: int | None, top_k: int
) -> list[Generation]:
    """Every prompt decoded, in the order given.

    Raises:
        RequestError: no prompt, an empty one, or one that does not fit with its output.
    """
    _refuse_what_does_not_fit(prompts, sampling, max_length)
    # Longest first: a static cache is then allocated once, at the size that all later batches fit into.
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]), reverse=True)
    size = min(BATCH, loaded.plan.max_batch or BATCH)
    done: dict[int, Generation] = {}
    for start in range(0, len(order), size):
        places = order[start : start + size]
        rows = [prompts[place] for place in places]
        if loaded.plan.fixed_shapes:
            rows += [rows[-1]] * (size - len(rows))
        # Rows of a filled-up batch that nobody asked for come last and are dropped.
        done.update(zip(places, _generate_batch(loaded, rows, sampling, start, top_k), strict=False))
    return [done[place] for place in range(len(prompts))]


def _refuse_what_does_not_fit(prompts: Sequence[TokenIds], sampling: SamplingParams, max_length: int | None) -> None:
    if not prompts or not all(prompts):
        msg = "generate needs at least one prompt, and each prompt at least one token"
        raise RequestError(msg)
    longest = max(map(len, prompts))
    if max_length is not None and longest + sampling.max_new_tokens > max_length:
        msg = (
            f"a prompt of {longest} tokens with {sampling.max_new_tokens} new ones needs room for "
            f"{longest + sampling.max_new_tokens}, but there is room for {max_length} "
            "(the model's max_position_embeddings or the cache's max_cache_len): "
            "shorten the request or enlarge the cache"
        )
        raise RequestError(msg)


def _generate_batch(
    loaded: Loaded, rows: Sequence[TokenIds], sampling: SamplingParams, batch: int, top_k: int
) -> list[Generation]:
    import torch

    model, device = loaded.model, loaded.model.device
    width = max(map(len, rows))
    input_ids = torch.full((len(rows), width), loaded.pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    for row, tokens in enumerate(rows):
        input_ids[row, width - len(tokens) :] = torch.tensor(tokens)
        attention_mask[row, width - len(tokens) :] = 1
    counter = _PassCounter()
    counting = counter.attached(model) if loaded.plan.speculative else nullcontext()
    made_anew = {key: value for make in loaded.plan.per_call for key, value in make(model, len(rows)).items()}
    clock = _Clock()
    with torch.random.fork_rng(), counting:
        torch.manual_seed(sampling.seed + batch)
        output = model.generate(
            input_ids.to(device),
            attention_mask=attention_mask.to(device),
            pad_token_id=loaded.pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
            stopping_criteria=[clock],
            **_arguments(sampling),
            **loaded.plan.generate,
            **made_anew,
        )
    emitted = output.sequences[:, width:].cpu()
    if len(output.logits) != emitted.shape[1]:
        msg = f"the decode path reported logits for {len(output.logits)} steps but emitted {emitted.shape[1]} tokens"
        raise RequestError(msg)
    logits = torch.stack(output.logits, dim=1)
    finished = []
    for row, tokens in enumerate(rows):
        length, reason = _finish(emitted[row].tolist(), loaded.eos_token_ids)
        evidence = top_logprobs(logits[row, :length], emitted[row, :length].to(device), top_k)
        passes = counter.passes or length
        drafted = max(0, counter.queried - len(tokens) - (passes - 1)) if counter.passes else 0
        finished.append(Generation(tokens, evidence, reason, passes, clock.timing, drafted))
    return finished


def _arguments(sampling: SamplingParams) -> dict[str, Any]:
    arguments: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": not sampling.greedy}
    if sampling.ignore_eos:
        arguments["min_new_tokens"] = sampling.max_new_tokens
    if not sampling.greedy:
        arguments |= {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
        arguments |= {"min_p": sampling.min_p} if sampling.min_p else {}
    return arguments


def _finish(tokens: Sequence[int], eos_token_ids: frozenset[int]) -> tuple[int, Any]:
    """How many tokens were emitted, the end-of-sequence token included, and why it stopped."""
    for place, token in enumerate(tokens):
        if token in eos_token_ids:
            return place + 1, "eos"
    return len(tokens), "length"


@dataclass
class _Clock:
    """Asked by `generate` after each step whether to stop: never, but it looks at the clock."""

    called: float = field(default_factory=time.perf_counter)
    steps: list[tuple[float, int]] = field(default_factory=list)
    """Per step, when it ended and how many tokens each row had then."""

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_kwargs: object) -> torch.Tensor:
        if input_ids.is_cuda:
            import torch

            torch.cuda.synchronize()
        self.steps.append((time.perf_counter(), int(input_ids.shape[1])))
        return input_ids.new_zeros(len(input_ids), dtype=bool)

    @property
    def timing(self) -> Timing:
        (first, tokens), (last, all_tokens) = self.steps[0], self.steps[-1]
        return Timing(first - self.called, last - first, all_tokens - tokens)


@dataclass
class _PassCounter:
    """Forward passes of a model, and the tokens that they were asked about."""

    passes: int = 0
    queried: int = 0

    @contextmanager
    def attached(self, model: Any) -> Iterator[None]:
        handle = model.register_forward_pre_hook(self._count, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _count(self, _model: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        input_ids = kwargs.get("input_ids", args[0] if args else None)
        self.passes += 1
        self.queried += 0 if input_ids is None else int(input_ids.shape[1])
