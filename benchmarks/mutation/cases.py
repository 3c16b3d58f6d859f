"""What every judge is given: a candidate beside its reference, and what several judges look at, done once and timed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.engine import Continuation, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmopt.core.engine import Generation
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.runtime.side import Side

PEERS = Path(".llmopt/peers")
"""Where `make mutation` installs the packages that we are compared with, away from the environment of the project."""
PROMPTS, NEW_TOKENS = 16, 48
"""The same as our own check has by default."""
BATCH, LENGTH = 4, 32
"""Of the batches that are given to forward passes, unpadded, as their users do."""


@dataclass
class Case:
    """One candidate to be judged."""

    candidate: Side
    reference: Side
    prompts: PromptSet
    seed: int
    borrowed: float = 0.0
    """Seconds of what a judge used and another judge had paid for."""
    _done: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name in self._done:
            self.borrowed += self._done[name][1]
        else:
            started = time.perf_counter()
            value = make()
            self._done[name] = value, time.perf_counter() - started
        return self._done[name][0]

    @property
    def decoded(self) -> list[tuple[Generation, Generation]]:
        """The greedy text of both sides."""

        def make() -> list[tuple[Generation, Generation]]:
            encoded = [prompt.encode(self.candidate) for prompt in self.prompts.take(PROMPTS)]
            both = [
                side.engine.generate(encoded, SamplingParams(NEW_TOKENS)) for side in (self.candidate, self.reference)
            ]
            return list(zip(*both, strict=True))

        return self._once("decoded", make)

    @property
    def scored(self) -> tuple[Sequence[TopLogprobs], Sequence[TopLogprobs]]:
        """What both sides think of given text."""

        def make() -> tuple[Sequence[TopLogprobs], Sequence[TopLogprobs]]:
            encoded = [prompt.encode(self.candidate) for prompt in self.prompts]
            given = [Continuation(ids[:1], ids[1:]) for ids in encoded if len(ids) > LENGTH][:PROMPTS]
            return self.candidate.engine.score(given), self.reference.engine.score(given)

        return self._once("scored", make)

    @property
    def batches(self) -> list[dict[str, Any]]:
        """Two batches for a forward pass."""
        import torch

        encoded = [prompt.encode(self.candidate)[:LENGTH] for prompt in self.prompts]
        rows = [ids for ids in encoded if len(ids) == LENGTH][: 2 * BATCH]
        given = [torch.tensor(rows[start : start + BATCH]) for start in (0, BATCH)]
        return [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in given]

    def logits(self, side: Side, inputs: dict[str, Any]) -> Any:
        """Of one forward pass without a cache: `[batch, tokens, vocabulary]`."""
        import torch

        with torch.no_grad():
            return self.model(side)(**inputs, use_cache=False).logits

    @staticmethod
    def model(side: Side) -> Any:
        """The library's own model object, which the rules of others take."""
        return side.engine._loaded.model  # type: ignore[attr-defined]  # noqa: SLF001

    def generate(self, model: Any, inputs: dict[str, Any], max_new_tokens: int, _kwargs: object) -> Any:
        """Greedy tokens, with what the candidate's optimizations ask of `generate`."""
        arguments: dict[str, Any] = {}
        rows = len(inputs["input_ids"])
        if model is self.model(self.candidate):
            plan = self.candidate.engine._loaded.plan  # type: ignore[attr-defined]  # noqa: SLF001
            rows = min(rows, plan.max_batch or rows)
            arguments = dict(plan.generate)
            for make in plan.per_call:
                arguments |= make(model, rows)
        first = {name: values[:1] for name, values in inputs.items()} if rows == 1 else inputs
        return model.generate(**first, do_sample=False, max_new_tokens=max_new_tokens, pad_token_id=1, **arguments)[:1]

    @staticmethod
    def first_difference(own: Generation, theirs: Generation) -> int | None:
        """The place of the first token that differs."""
        for place, (one, other) in enumerate(zip(own.token_ids, theirs.token_ids, strict=False)):
            if one != other:
                return place
        return None
