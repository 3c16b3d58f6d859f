"""Decoding through the library's own `generate`, with the logits that it acted on."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmopt.core.engine import Continuation, DecodeStep, Generation, SamplingParams, Timing, TokenIds
from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.engines._transformers.evidence import top_logprobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from pytest_llmopt.core.optimization import LoadPlan
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
    return _in_batches(loaded, prompts, lambda rows, _, batch: _run(loaded, rows, sampling, batch, top_k))


def force(
    loaded: Loaded,
    continuations: Sequence[Continuation],
    prefill_chunk: int | None,
    batch_size: int | None,
    max_length: int | None,
    top_k: int,
) -> list[Generation]:
    """The tokens of every continuation driven through `generate`, in the order given.

    Raises:
        RequestError: a token ends the generation, or a continuation does not fit.
    """
    for item in continuations:
        if loaded.eos_token_ids.intersection(item.token_ids):
            msg = f"cannot force the end-of-sequence token in the middle: {item.token_ids[:8]}..."
            raise RequestError(msg)
    prompts = [item.prompt_ids for item in continuations]
    longest = SamplingParams(max_new_tokens=max(len(item.token_ids) for item in continuations))
    _refuse_what_does_not_fit(prompts, longest, max_length)
    # Without a cache there is nothing to prefill in pieces: every step processes the whole text.
    whole = prefill_chunk is None or loaded.plan.generate.get("use_cache") is False
    extra = {} if whole else {"prefill_chunk_size": prefill_chunk}

    def run(rows: list[TokenIds], places: list[int], batch: int) -> list[Generation]:
        tokens = [continuations[place].token_ids for place in places]
        tokens += [tokens[-1]] * (len(rows) - len(tokens))
        sampling = SamplingParams(max_new_tokens=max(map(len, tokens)))
        return _run(loaded, rows, sampling, batch, top_k, forced=tokens, **extra)

    return _in_batches(loaded, prompts, run, batch_size)


def rows_together(plan: LoadPlan, wanted: int | None = None) -> int:
    """The most prompts of one `generate` call."""
    # Another number of rows would be another shape, so another graph, where shapes are fixed.
    size = BATCH if wanted is None or plan.fixed_shapes else wanted
    return min(size, plan.max_batch or size)


def _in_batches(
    loaded: Loaded,
    prompts: Sequence[TokenIds],
    run: Callable[[list[TokenIds], list[int], int], list[Generation]],
    wanted: int | None = None,
) -> list[Generation]:
    """Run prompts of similar length together; the results in the order given."""
    # Longest first: a static cache is then allocated once, at the size that all later batches fit into.
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]), reverse=True)
    size = rows_together(loaded.plan, wanted)
    done: dict[int, Generation] = {}
    for start in range(0, len(order), size):
        places = order[start : start + size]
        rows = [prompts[place] for place in places]
        if loaded.plan.fixed_shapes:
            rows += [rows[-1]] * (size - len(rows))
        # Rows of a filled-up batch that nobody asked for come last and are dropped.
        done.update(zip(places, run(rows, places, start), strict=False))
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


def _run(
    loaded: Loaded,
    rows: Sequence[TokenIds],
    sampling: SamplingParams,
    batch: int,
    top_k: int,
    *,
    forced: Sequence[TokenIds] | None = None,
    **extra: Any,
) -> list[Generation]:
    import torch

    model, device = loaded.model, loaded.model.device
    width = max(map(len, rows))
    input_ids = torch.full((len(rows), width), loaded.pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    for row, tokens in enumerate(rows):
        input_ids[row, width - len(tokens) :] = torch.tensor(tokens)
        attention_mask[row, width - len(tokens) :] = 1
    watch = _Watch(width)
    watching = watch.attached(model) if loaded.plan.speculative else nullcontext()
    made_anew = {key: value for make in loaded.plan.per_call for key, value in make(model, len(rows)).items()}
    if forced is not None:
        extra["logits_processor"] = [_Force(width, forced)]
    with torch.random.fork_rng(), watching:
        torch.manual_seed(sampling.seed + batch)
        output = model.generate(
            input_ids.to(device),
            attention_mask=attention_mask.to(device),
            pad_token_id=loaded.pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
            stopping_criteria=[watch],
            **_arguments(sampling, loaded.eos_token_ids),
            **loaded.plan.generate,
            **made_anew,
            **extra,
        )
    emitted = output.sequences[:, width:].cpu()
    if len(output.logits) != emitted.shape[1]:
        msg = f"the decode path reported logits for {len(output.logits)} steps but emitted {emitted.shape[1]} tokens"
        raise RequestError(msg)
    logits = torch.stack(output.logits, dim=1)
    finished = []
    for row, tokens in enumerate(rows):
        length, reason = _finish(emitted[row].tolist(), loaded.eos_token_ids, sampling.stop_token_ids)
        length = length if forced is None else min(length, len(forced[row]))
        evidence = top_logprobs(logits[row, :length], emitted[row, :length].to(device), top_k)
        after_end = emitted[row, length:] if reason != "length" else emitted[row, :0]
        overrun = int((after_end != loaded.pad_token_id).sum())
        finished.append(Generation(tokens, evidence, reason, watch.steps(length), watch.timing, overrun))
    return finished


def _arguments(sampling: SamplingParams, eos_token_ids: frozenset[int]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": not sampling.greedy}
    if sampling.ignore_eos:
        arguments["min_new_tokens"] = sampling.max_new_tokens
    if sampling.stop_token_ids:
        arguments["eos_token_id"] = sorted(eos_token_ids.union(sampling.stop_token_ids))
    if not sampling.greedy:
        # Logits that are not finite end in an error of the sampler otherwise; the evidence has them as they are.
        arguments["remove_invalid_values"] = True
        arguments |= {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
        arguments |= {"min_p": sampling.min_p} if sampling.min_p else {}
    return arguments


def _finish(
    tokens: Sequence[int], eos_token_ids: frozenset[int], stop_token_ids: Sequence[int]
) -> tuple[int, Literal["eos", "stop", "length"]]:
    """How many tokens were emitted, the one that ended them included, and why it stopped."""
    for place, token in enumerate(tokens):
        if token in eos_token_ids:
            return place + 1, "eos"
        if token in stop_token_ids:
            return place + 1, "stop"
    return len(tokens), "length"


@dataclass
class _Watch:
    """Looks at the clock after each step of `generate`, which asks it, as a stopping criterion, whether to stop."""

    prompt_tokens: int
    called: float = field(default_factory=time.perf_counter)
    ends: list[tuple[float, int]] = field(default_factory=list)
    """Per step, when it ended and how many tokens each row had then."""
    queried: list[int] = field(default_factory=list)
    """Per forward pass, the tokens that it was asked about; empty unless attached."""

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_kwargs: object) -> torch.Tensor:
        # Assisted decoding also asks about drafts that are not verified yet; only the first call after a pass counts.
        if not self.queried or len(self.ends) < len(self.queried):
            if input_ids.is_cuda:
                import torch

                torch.cuda.synchronize()
            self.ends.append((time.perf_counter(), int(input_ids.shape[1])))
        return input_ids.new_zeros(len(input_ids), dtype=bool)

    @contextmanager
    def attached(self, model: Any) -> Iterator[None]:
        """Also watch the forward passes of a model."""
        handle = model.register_forward_pre_hook(self._count, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _count(self, _model: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        input_ids = kwargs.get("input_ids", args[0] if args else None)
        self.queried.append(0 if input_ids is None else int(input_ids.shape[1]))

    @property
    def timing(self) -> Timing:
        (first, tokens), (last, all_tokens) = self.ends[0], self.ends[-1]
        return Timing(first - self.called, last - first, all_tokens - tokens)

    def steps(self, tokens: int) -> tuple[DecodeStep, ...]:
        """The steps of a row that emitted so many tokens.

        A pass is asked about the proposals and the one token before them; the first one about the whole prompt.
        """
        if not self.queried:
            return (DecodeStep(1),) * tokens
        lengths = [self.prompt_tokens, *(length for _, length in self.ends)]
        own = [self.prompt_tokens, *([1] * (len(self.queried) - 1))]
        return tuple(
            DecodeStep(after - before, max(0, queried - without))
            for before, after, queried, without in zip(lengths[:-1], lengths[1:], self.queried, own, strict=True)
        )


@dataclass
class _Force:
    """A logits processor that leaves one token possible at each position."""

    prompt_tokens: int
    forced: Sequence[TokenIds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        place = int(input_ids.shape[1]) - self.prompt_tokens
        tokens = [row[min(place, len(row) - 1)] for row in self.forced]
        kept = scores.new_full(scores.shape, -float("inf"))
        for row, token in enumerate(tokens):
            kept[row, token] = 0.0
        return kept
