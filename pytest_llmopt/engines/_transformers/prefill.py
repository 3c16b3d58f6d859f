"""What the prefill of the decode path thinks of the prompt itself: many positions, over the KV cache, in few passes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.answers import Generation
from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.core.logprobs import TopLogprobs
from pytest_llmopt.core.tokens import Continuation
from pytest_llmopt.engines._transformers import generation
from pytest_llmopt.engines._transformers.evidence import top_logprobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_llmopt.core.tokens import TokenIds
    from pytest_llmopt.engines._transformers.model_loading import LoadedModel


def read(
    loaded: LoadedModel, continuations: Sequence[Continuation], room: generation.Room, **how: Any
) -> list[Generation]:
    """Every token but the first of each continuation, as the prefill of `generate` sees it; in the order given.

    Only texts of one length go together, so that no row is padded and every pass is at the same place in all of them.

    Args:
        loaded: the model.
        continuations: the texts.
        room: what a call may ask for.
        **how: `prefill_chunk`, `batch_size` and `seed`, as `generation.force` takes them.

    Raises:
        RequestError: the model gives logits of a pass's last position only.
    """
    done: dict[int, Generation] = {}
    order = sorted(range(len(continuations)), key=lambda place: len(continuations[place]))
    for _, group in groupby(order, key=lambda place: len(continuations[place])):
        places = list(group)
        size = generation.rows_together(loaded.plan, how.get("batch_size"))
        for start in range(0, len(places), size):
            batch = places[start : start + size]
            tokens = [continuations[place].prompt_ids + continuations[place].token_ids for place in batch]
            done.update(zip(batch, _read(loaded, tokens, room, how), strict=True))
    return [done[place] for place in range(len(continuations))]


def _read(
    loaded: LoadedModel, texts: Sequence[TokenIds], room: generation.Room, how: Mapping[str, Any]
) -> list[Generation]:
    reader = _Reader(texts, room.top_k)
    with reader.attached(loaded.model):
        # The last token is forced, so that all before it are prompt.
        given = [Continuation(tokens[:-1], tokens[-1:]) for tokens in texts]
        forced = generation.force(loaded, given, room, **how)
    return [
        Generation(tokens[:1], TopLogprobs.concatenate(parts), item.finish_reason, item.steps, item.timing)
        for tokens, parts, item in zip(texts, reader.parts(), forced, strict=True)
    ]


@dataclass
class _Reader:
    """Asks every pass for the logits of all its positions and keeps what they say of the tokens that follow."""

    texts: Sequence[TokenIds]
    top_k: int
    seen: int = 0
    """Positions of the texts that passes were fed so far."""
    _parts: list[list[TopLogprobs]] = field(default_factory=list)

    @contextmanager
    def attached(self, model: Any) -> Iterator[None]:
        """Watch the forward passes of a model."""
        self._parts = [[] for _ in self.texts]
        handles = (
            model.register_forward_pre_hook(self._ask, with_kwargs=True),
            model.register_forward_hook(self._keep, with_kwargs=True),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def parts(self) -> list[list[TopLogprobs]]:
        """The evidence of every text, pass by pass.

        Raises:
            RequestError: it does not cover the text.
        """
        wanted = len(self.texts[0]) - 1
        if self.seen < wanted:
            msg = f"the prefill gave logits of {self.seen} of {wanted} positions"
            raise RequestError(msg)
        return self._parts

    @staticmethod
    def _ask(_model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs | {"logits_to_keep": 0} if "logits_to_keep" in kwargs else kwargs

    def _keep(self, _model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        import torch

        length = len(self.texts[0])
        fed = kwargs.get("input_ids", args[0] if args else None)
        fed = kwargs.get("inputs_embeds") if fed is None else fed
        if fed is None or output.logits.shape[1] != fed.shape[1]:
            msg = "the model gives logits of the last position of a pass only, so its prefill cannot be read"
            raise RequestError(msg)
        # What a draft proposes behind the text is no part of it.
        count = min(int(fed.shape[1]), length - 1 - self.seen)
        if count <= 0:
            return
        for row, tokens in enumerate(self.texts):
            targets = torch.tensor(tokens[self.seen + 1 : self.seen + 1 + count], device=output.logits.device)
            self._parts[row].append(top_logprobs(output.logits[row, :count], targets, self.top_k))
        self.seen += count
