"""A loaded model at work: what it was asked so far, what it has room for, and the process state that it runs in."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmopt.core.engine import ModelInfo
from pytest_llmopt.engines._transformers import abilities, generation, model_inspection, scope
from pytest_llmopt.engines._transformers.scoring import Scorer, vocab_size_of
from pytest_llmopt.engines._transformers.tokens import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from pytest_llmopt.core.tokens import TokenIds
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.engines._transformers.model_loading import LoadedModel

TOP_K = 1024
"""Log-probabilities kept per position: the whole vocabulary of a small model, all but a sliver of a large one."""


@dataclass
class RunningModel:
    """What answers requests: a model, and what of its past later answers rest on."""

    variant: Variant
    loaded: LoadedModel
    scorer: Scorer = field(init=False)
    graphs: int = 0
    """That torch.compile has made while it decoded."""
    longest_request: int = 0
    """Tokens, prompt and output together."""
    _lacks: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look at the model once."""
        self.scorer = Scorer(self.loaded)

    @property
    def info(self) -> ModelInfo:
        """What is known of it without asking."""
        plan, model = self.loaded.plan, self.loaded.model
        limits = (plan.max_length, getattr(model.config, "max_position_embeddings", None))
        return ModelInfo(
            self.variant,
            vocab_size_of(model),
            str(model.dtype).removeprefix("torch."),
            self.loaded.eos_token_ids,
            min((limit for limit in limits if limit is not None), default=None),
            None if plan.draft is None else dataclasses.replace(self.variant.unoptimized(), model=plan.draft),
        )

    @property
    def own_text(self) -> TokenIds:
        """A few tokens to look at it with."""
        return encode(self.loaded.tokenizer, model_inspection.TEXT) or (0,)

    def room(self, prompts: Sequence[TokenIds]) -> generation.Room:
        """What a call with these prompts may ask for."""
        ragged = len({len(item) for item in prompts}) > 1 and self.loaded.plan.max_batch != 1
        padded = not (ragged and self.lack_of(abilities.BATCHES))
        return generation.Room(self.info.max_length, TOP_K, padded=padded)

    def lack_of(self, name: str) -> str:
        """Why its architecture cannot do something; empty where it can. Tried once, where there is a doubt."""
        if name not in self._lacks:
            tried = {abilities.BATCHES: abilities.lacks_padding, abilities.CHUNKS: abilities.lacks_chunks}
            doubtful = name in abilities.doubtful(self.loaded.model)
            with self.at_work():
                self._lacks[name] = tried[name](self.loaded, self.own_text) if doubtful else ""
        return self._lacks[name]

    def at_work(self) -> AbstractContextManager[None]:
        """Its own threads and random numbers, and those of the process back afterwards."""
        return scope.scoped(self.loaded.model.device, threads=self.loaded.threads, seed=0)

    @contextmanager
    def decoding(self, prompt_tokens: int, new_tokens: int) -> Iterator[None]:
        """At work, with the graphs counted that come about, and the length of the request remembered."""
        self.longest_request = max(self.longest_request, prompt_tokens + new_tokens)
        before = _graphs_compiled()
        try:
            with self.at_work():
                yield
        finally:
            self.graphs += _graphs_compiled() - before


def _graphs_compiled() -> int:
    import sys

    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo is not None else 0
