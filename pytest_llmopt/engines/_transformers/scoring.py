"""Teacher forcing through the model's own forward over several tokens, without a cache."""

from __future__ import annotations

import copy
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import NoRoomError, RequestError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.engines._transformers.evidence import top_logprobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_llmopt.core.tokens import Continuation, TokenIds
    from pytest_llmopt.engines._transformers.model_loading import LoadedModel

BATCH_TOKENS = 4096
"""Tokens, padding included, in one forward pass."""
LOGITS_AT_ONCE = 2**23
"""Logits held at once: 32 MiB in float32, whatever the length of the input and the size of the vocabulary."""
TRIED = 16
"""Tokens on which a vocabulary projection in pieces has to agree with the model's own."""
ULPS = 4
"""Units in the last place of a logit by which they may differ there: the same products, in other blocks."""


class Scorer:
    """Scores continuations on a loaded model.

    What fits goes through the model's forward as it is. Where its logits would not, the forward runs once with its last
    hidden states caught, and then again on pieces of them, its body replaced by what was caught: head, soft-capping and
    scaling remain its own. Whether that is the same function is tried once; where it is not, or where no part of the
    model gives its last hidden states, the input is cut instead.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        """Of this model; nothing runs yet."""
        self._loaded = loaded
        self._tried = False
        self._body: Any = None
        taken = inspect.signature(type(loaded.model).forward).parameters
        self._takes = frozenset(taken)
        self._takes_any = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in taken.values())

    def score(self, continuations: Sequence[Continuation], top_k: int) -> list[TopLogprobs]:
        """The log-probabilities of each continuation's tokens, in the order given."""
        import torch

        longest = getattr(self._loaded.model.config, "max_position_embeddings", None)
        refuse_request(self._loaded.model, (item.prompt_ids + item.token_ids for item in continuations), longest)
        scored: dict[int, TopLogprobs] = {}
        # Teacher forcing is not the path that a compiled candidate is judged on; its shapes would take minutes.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            for places in _batches(continuations):
                batch = [continuations[place] for place in places]
                scored.update(zip(places, self._score_batch(batch, top_k), strict=True))
        return [scored[place] for place in range(len(continuations))]

    def _score_batch(self, batch: Sequence[Continuation], top_k: int) -> list[TopLogprobs]:
        vocab_size, width = vocab_size_of(self._loaded.model), max(map(len, batch))
        if len(batch) * width * vocab_size <= LOGITS_AT_ONCE:
            return self._whole(batch, top_k)
        body = self._body_that_agrees(batch[-1])
        if body is not None:
            return self._in_pieces(body, batch, top_k, max(1, LOGITS_AT_ONCE // vocab_size))
        rows = max(1, LOGITS_AT_ONCE // (width * vocab_size))
        if rows > 1 or "logits_to_keep" not in self._takes:
            starts = range(0, len(batch), rows)
            return [item for start in starts for item in self._whole(batch[start : start + rows], top_k)]
        step = max(1, LOGITS_AT_ONCE // vocab_size)
        return [self._over_and_over(item, top_k, step) for item in batch]

    def _whole(self, batch: Sequence[Continuation], top_k: int) -> list[TopLogprobs]:
        """By the logits of one forward pass."""
        inputs, rows, positions, targets = self._inputs(batch)
        logits = self._loaded.model(**inputs).logits
        together = top_logprobs(logits[rows, positions], targets, top_k)
        return _apart(together, batch)

    def _in_pieces(self, body: Any, batch: Sequence[Continuation], top_k: int, step: int) -> list[TopLogprobs]:
        """By one pass of the body, and one of the rest for each piece."""
        inputs, rows, positions, targets = self._inputs(batch)
        output = self._caught(body, inputs)
        hidden = output.last_hidden_state[rows, positions]
        parts = [
            top_logprobs(
                self._replayed(body, output, hidden[None, start : start + step], inputs)[0],
                targets[start : start + step],
                top_k,
            )
            for start in range(0, len(targets), step)
        ]
        return _apart(TopLogprobs.concatenate(parts), batch)

    def _over_and_over(self, item: Continuation, top_k: int, step: int) -> TopLogprobs:
        """By as many passes as it takes, each giving the logits of some positions only."""
        import torch

        inputs, _, positions, targets = self._inputs([item])
        parts = []
        for start in range(0, len(targets), step):
            asked = torch.tensor(positions[start : start + step], device=targets.device)
            logits = self._loaded.model(**inputs, logits_to_keep=asked).logits[0]
            parts.append(top_logprobs(logits, targets[start : start + step], top_k))
        return TopLogprobs.concatenate(parts)

    def _inputs(self, batch: Sequence[Continuation]) -> tuple[dict[str, Any], list[int], list[int], Any]:
        """Arguments of the forward; rows and positions of the logits to look at; the tokens that were there."""
        import torch

        device = self._loaded.model.device
        input_ids = torch.full((len(batch), max(map(len, batch))), padding_of(self._loaded))
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
        given = {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}
        given |= {"use_cache": False, "return_dict": True}
        return {name: value for name, value in given.items() if self._accepts(name)}, rows, positions, targets

    def _accepts(self, name: str) -> bool:
        return self._takes_any or name in self._takes

    def _body_that_agrees(self, item: Continuation) -> Any:
        """The part of the model before its head, if running the head apart gives what the whole gives; else None."""
        if not self._tried:
            self._tried = True
            try:
                self._body = self._try(item)
            except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
                self._body = None  # a forward that cannot be taken apart: it is run as a whole
        return self._body

    def _try(self, item: Continuation) -> Any:
        import torch

        model = self._loaded.model
        ids = torch.tensor([(item.prompt_ids + item.token_ids)[:TRIED]], device=model.device)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False, "return_dict": True}
        inputs = {name: value for name, value in given.items() if self._accepts(name)}
        body, own = _body_of(model, inputs)
        if body is None:
            return None
        output = self._caught(body, inputs)
        half = (ids.shape[1] + 1) // 2
        pieces = [part for part in output.last_hidden_state.split(half, dim=1) if part.shape[1]]
        again = torch.cat([self._replayed(body, output, part, inputs) for part in pieces], dim=1)
        unit = torch.finfo(own.dtype).eps
        close = own.shape == again.shape and torch.allclose(
            again, own, rtol=ULPS * unit, atol=unit * float(own.abs().max()), equal_nan=True
        )
        return body if close else None

    def _caught(self, body: Any, inputs: dict[str, Any]) -> Any:
        """What the body gives in a pass of the whole model, whose head is run on one position only."""
        kept: list[Any] = []

        def catch(_module: Any, _args: Any, output: Any) -> Any:
            kept.append(output)
            return _with_hidden(output, output.last_hidden_state[:, -1:])

        handle = body.register_forward_hook(catch)
        try:
            self._loaded.model(**inputs)
        finally:
            handle.remove()
        return kept[-1]

    def _replayed(self, body: Any, output: Any, hidden: Any, inputs: dict[str, Any]) -> Any:
        """Logits of the model's own forward on given hidden states, its body skipped."""
        short = {name: value[:1, :1] if hasattr(value, "shape") else value for name, value in inputs.items()}
        with _replaying(body, _with_hidden(output, hidden)):
            return self._loaded.model(**short).logits


def rows_of(model: Any) -> int:
    """The number of tokens that can be fed to a model: the rows of its input embedding."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    found = getattr(model.get_input_embeddings(), "num_embeddings", None) or (None if weight is None else len(weight))
    return vocab_size_of(model) if found is None else int(found)


def padding_of(loaded: LoadedModel) -> int:
    """A token to fill batches with. It is masked out, so that any will do where the one that is named has no row."""
    pad, rows = loaded.pad_token_id, rows_of(loaded.model)
    return pad if 0 <= pad < rows else min((end for end in loaded.eos_token_ids if end < rows), default=0)


def refuse_request(model: Any, texts: Iterable[TokenIds], max_length: int | None, new_tokens: int = 0) -> None:
    """Refuse texts that a model has no room or no embedding for, in words instead of an index error of a kernel.

    Raises:
        NoRoomError: one is too long.
        RequestError: one holds a token that is none of the model's.
    """
    rows = rows_of(model)
    for tokens in texts:
        wanted = len(tokens) + new_tokens
        if max_length is not None and wanted > max_length:
            what = f"a prompt of {len(tokens)} tokens with {new_tokens} new ones" if new_tokens else "a text"
            msg = (
                f"{what} needs room for {wanted} tokens, but there is room for {max_length} (max_position_embeddings "
                "of the model or its draft, or the cache's max_cache_len): shorten the request or enlarge the cache"
            )
            raise NoRoomError(msg)
        if max(tokens) >= rows or min(tokens) < 0:
            place = next(place for place, token in enumerate(tokens) if not 0 <= token < rows)
            msg = f"the token id {tokens[place]} at position {place} is none of the model's, which end at {rows - 1}"
            raise RequestError(msg)


def vocab_size_of(model: Any) -> int:
    """The number of logits of a position."""
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    return int(model.config.get_text_config(decoder=True).vocab_size if weight is None else weight.shape[0])


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


def _apart(together: TopLogprobs, batch: Sequence[Continuation]) -> list[TopLogprobs]:
    parts, start = [], 0
    for item in batch:
        end = start + len(item.token_ids)
        parts.append(together[start:end])
        start = end
    return parts


def _body_of(model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """The outermost part of a model that gives last hidden states, and the logits of the pass that showed it."""
    found: list[Any] = []

    def look(module: Any, _args: Any, output: Any) -> None:
        if getattr(output, "last_hidden_state", None) is not None:
            found.append(module)

    handles = [module.register_forward_hook(look) for module in model.modules() if module is not model]
    try:
        logits = model(**inputs).logits
    finally:
        for handle in handles:
            handle.remove()
    return (found[-1] if found else None), logits  # the outermost is the last to end


def _with_hidden(output: Any, hidden: Any) -> Any:
    replay = copy.copy(output)
    replay["last_hidden_state"] = hidden
    return replay


@contextmanager
def _replaying(body: Any, output: Any) -> Iterator[None]:
    """Inside it, a module gives an output that it gave before."""
    own = body.__dict__.get("forward")
    body.forward = lambda *_args, **_kwargs: output
    try:
        yield
    finally:
        if own is None:
            del body.forward
        else:
            body.forward = own
