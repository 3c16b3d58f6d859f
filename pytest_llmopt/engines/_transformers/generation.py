"""Decoding through the library's own `generate`, with the logits that it acted on."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmopt.core.answers import Generation
from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.engines._transformers.arguments import merged, of_request, refuse
from pytest_llmopt.engines._transformers.evidence import top_logprobs
from pytest_llmopt.engines._transformers.scope import reseed
from pytest_llmopt.engines._transformers.scoring import padding_of, refuse_request
from pytest_llmopt.engines._transformers.step_clock import StepClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from pytest_llmopt.core.tokens import Continuation, TokenIds
    from pytest_llmopt.engines._transformers.model_loading import LoadedModel
    from pytest_llmopt.engines._transformers.plan import LoadPlan

BATCH = 8
"""Prompts decoded together where the optimizations allow it."""


@dataclass(frozen=True)
class Room:
    """What a call may ask for."""

    max_length: int | None
    """Tokens, prompt and output together."""
    top_k: int
    """Log-probabilities to keep at each position."""
    padded: bool = True
    """Whether prompts of different lengths can share a batch, the shorter ones padded on the left."""


def generate(
    loaded: LoadedModel, prompts: Sequence[TokenIds], sampling: SamplingParams, room: Room
) -> list[Generation]:
    """Every prompt decoded, in the order given.

    Raises:
        RequestError: no prompt, an empty one, or one that does not fit with its output.
    """
    _refuse_what_does_not_fit(loaded, prompts, sampling.max_new_tokens, room.max_length)
    return _in_batches(loaded, prompts, room, lambda rows, _, batch: _run(loaded, rows, sampling, batch, room.top_k))


def force(
    loaded: LoadedModel,
    continuations: Sequence[Continuation],
    room: Room,
    *,
    prefill_chunk: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    processed: TokenIds | None = None,
) -> list[Generation]:
    """The tokens of every continuation driven through `generate`, in the order given, whatever they are.

    Args:
        loaded: the model.
        continuations: prompts, and what is to be emitted after each; a token that would end a text does not.
        room: what a call may ask for.
        prefill_chunk: process the prompts in pieces of so many tokens.
        batch_size: the most rows together.
        seed: of whatever draws at random while it runs.
        processed: give the log-probabilities behind all logits processors instead of the model's own, in a request
            with these stop tokens; None gives the model's own.

    Raises:
        RequestError: a continuation does not fit.
    """
    prompts = [item.prompt_ids for item in continuations]
    longest = max((len(item.token_ids) for item in continuations), default=1)
    _refuse_what_does_not_fit(loaded, prompts, longest, room.max_length)
    refuse_request(loaded.model, (item.token_ids for item in continuations), None)
    # Without a cache there is nothing to prefill in pieces: every step processes the whole text.
    whole = prefill_chunk is None or loaded.plan.generate.get("use_cache") is False
    extra = {} if whole else {"prefill_chunk_size": prefill_chunk}

    def run(rows: list[TokenIds], places: list[int], batch: int) -> list[Generation]:
        tokens = [continuations[place].token_ids for place in places]
        tokens += [tokens[-1]] * (len(rows) - len(tokens))
        sampling = SamplingParams(max_new_tokens=max(map(len, tokens)), seed=seed, stop_token_ids=processed or ())
        forced = _Force(max(map(len, rows)), tokens, room.top_k, keep=processed is not None)
        return _run(loaded, rows, sampling, batch, room.top_k, forced=forced, **extra)

    return _in_batches(loaded, prompts, room, run, batch_size)


def rows_together(plan: LoadPlan, wanted: int | None = None) -> int:
    """The most prompts of one `generate` call."""
    # Another number of rows would be another shape, so another graph, where shapes are fixed.
    size = BATCH if wanted is None or plan.fixed_shapes else wanted
    return min(size, plan.max_batch or size)


def batches(prompts: Sequence[TokenIds], size: int, room: Room) -> list[list[int]]:
    """Places of the prompts of each call, of at most `size` rows: of one length only where rows cannot be padded."""
    # Longest first: a static cache is then allocated once, at the size that all later batches fit into.
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]), reverse=True)
    groups = [order] if room.padded else [list(same) for _, same in groupby(order, lambda place: len(prompts[place]))]
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def _in_batches(
    loaded: LoadedModel,
    prompts: Sequence[TokenIds],
    room: Room,
    run: Callable[[list[TokenIds], list[int], int], list[Generation]],
    wanted: int | None = None,
) -> list[Generation]:
    """Run prompts of similar length together; the results in the order given."""
    size = rows_together(loaded.plan, wanted)
    done: dict[int, Generation] = {}
    for places in batches(prompts, size, room):
        rows = [prompts[place] for place in places]
        if loaded.plan.fixed_shapes:
            rows += [rows[-1]] * (size - len(rows))
        # Rows of a filled-up batch that nobody asked for come last and are dropped.
        done.update(zip(places, run(rows, places, len(done)), strict=False))
    return [done[place] for place in range(len(prompts))]


def _refuse_what_does_not_fit(
    loaded: LoadedModel, prompts: Sequence[TokenIds], new_tokens: int, max_length: int | None
) -> None:
    if not prompts or not all(prompts):
        msg = "generate needs at least one prompt, and each prompt at least one token"
        raise RequestError(msg)
    refuse_request(loaded.model, prompts, max_length, new_tokens)


def _run(
    loaded: LoadedModel,
    rows: Sequence[TokenIds],
    sampling: SamplingParams,
    batch: int,
    top_k: int,
    *,
    forced: _Force | None = None,
    **extra: Any,
) -> list[Generation]:
    import torch

    model, device = loaded.model, loaded.model.device
    width = max(map(len, rows))
    pad = loaded.plan.generate.get("pad_token_id", padding_of(loaded))
    input_ids = torch.full((len(rows), width), pad)
    attention_mask = torch.zeros_like(input_ids)
    for row, tokens in enumerate(rows):
        input_ids[row, width - len(tokens) :] = torch.tensor(tokens)
        attention_mask[row, width - len(tokens) :] = 1
    watch = StepClock(width)
    watching = watch.attached(model) if loaded.plan.speculative else nullcontext()
    made_anew = {key: value for make in loaded.plan.per_call for key, value in make(model, len(rows)).items()}
    refuse(made_anew)
    ours = {
        "pad_token_id": pad,
        "return_dict_in_generate": True,
        "output_logits": True,
        "stopping_criteria": [watch],
        "logits_processor": [] if forced is None else [forced],
    }
    theirs = loaded.plan.generate | made_anew
    request = of_request(sampling, loaded.eos_token_ids) | extra
    arguments = merged(ours, theirs, request, forced=forced is not None)
    if forced is not None and not forced.keeps:
        arguments["eos_token_id"] = None  # behind processors, which may keep an end away, it is one
    if arguments.get("stop_strings"):
        arguments["tokenizer"] = loaded.tokenizer
    reseed(sampling.seed + batch)
    with watching, _memory_in_words():
        output = model.generate(input_ids.to(device), attention_mask=attention_mask.to(device), **arguments)
    emitted = output.sequences[:, width:].cpu()
    if len(output.logits) != emitted.shape[1]:
        msg = f"the decode path reported logits for {len(output.logits)} steps but emitted {emitted.shape[1]} tokens"
        raise RequestError(msg)
    logits = torch.stack(output.logits, dim=1)
    finished = []
    for row, tokens in enumerate(rows):
        reason: Literal["eos", "stop", "length"]
        if forced is None:
            length, reason = _finish(emitted[row].tolist(), loaded.eos_token_ids, sampling.stop_token_ids)
        else:
            length, reason = min(emitted.shape[1], forced.length(row)), "length"
        own = None if forced is None else forced.evidence(row, length)
        evidence = own or top_logprobs(logits[row, :length], emitted[row, :length].to(device), top_k)
        after_end = emitted[row, length:] if reason != "length" else emitted[row, :0]
        overrun = int((after_end != pad).sum())
        finished.append(Generation(tokens, evidence, reason, watch.steps(length), watch.timing, overrun))
    return finished


@contextmanager
def _memory_in_words() -> Iterator[None]:
    """Inside it, an allocation that failed is said to be one."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).partition("\n")[0]
        if isinstance(error, RuntimeError) and "allocate" not in text and "out of memory" not in text:
            raise
        msg = f"there is no memory for this request ({text or 'MemoryError'}): ask for fewer tokens or a shorter cache"
        raise RequestError(msg) from None


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


class _Force:
    """The last logits processor: it leaves one token possible at each position."""

    def __init__(self, prompt_tokens: int, forced: Sequence[TokenIds], top_k: int, *, keep: bool) -> None:
        """With the tokens of each row, and whether to keep what the processors before it made of the logits."""
        self._prompt_tokens = prompt_tokens
        self._forced = forced
        self._top_k = top_k
        self._kept: dict[int, TopLogprobs] | None = {} if keep else None
        """By place, of all rows: speculation may ask again about a place, and the last answer is the one acted on."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        place = int(input_ids.shape[1]) - self._prompt_tokens
        tokens = scores.new_tensor([row[min(place, len(row) - 1)] for row in self._forced], dtype=input_ids.dtype)
        if self._kept is not None:
            self._kept[place] = top_logprobs(scores, tokens, self._top_k)
        kept = scores.new_full(scores.shape, -float("inf"))
        return kept.scatter(1, tokens[:, None], 0.0)

    @property
    def keeps(self) -> bool:
        """Whether it keeps what the processors before it made of the logits."""
        return self._kept is not None

    def length(self, row: int) -> int:
        """The tokens of a row."""
        return len(self._forced[row])

    def evidence(self, row: int, length: int) -> TopLogprobs | None:
        """What was kept of a row."""
        if self._kept is None:
            return None
        return TopLogprobs.concatenate([self._kept[place][slice(row, row + 1)] for place in range(length)])
