"""What every judge is given: a candidate beside its reference, and what several judges look at, done once and timed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.engine import bare
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.tokens import Continuation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_llmopt.core.answers import Generation
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side

PEERS = Path(".llmopt/peers")
"""Where `make mutation` installs the packages that we are compared with, away from the environment of the project."""
PROMPTS, NEW_TOKENS = 16, 48
"""The same as our own check has by default."""
BATCH, LENGTH = 4, 32
"""Of the batches that are given to forward passes, unpadded, as their users do."""


def _loaded_by(side: Side) -> Any:
    """What an engine of Transformers has loaded, whose objects the rules of others take."""
    return bare(side.engine)._running.loaded  # type: ignore[attr-defined]  # noqa: SLF001


@dataclass
class Case:
    """One candidate to be judged."""

    candidate: Side
    reference: Side
    prompts: PromptSet
    seed: int
    borrowed: float = 0.0
    """Seconds of what a judge used and another judge had paid for."""
    looked_at: dict[str, dict[str, int]] = field(default_factory=dict)
    """By check, what its verdict looked at: positions, the deepest of them, batches, ways in; filled by our gate."""
    of_references: dict[str, tuple[Any, float]] = field(default_factory=dict)
    """What references answered to earlier candidates, with the seconds that it took."""
    _done: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def note(self, check: str, looked_at: Mapping[str, int]) -> None:
        """Keep what a verdict looked at; of a check that runs several times, the most of each."""
        known = self.looked_at.setdefault(check, {})
        for key, count in looked_at.items():
            known[key] = max(known.get(key, 0), int(count))

    def _once(self, name: str, make: Callable[[], Any], done: dict[str, tuple[Any, float]] | None = None) -> Any:
        done = self._done if done is None else done
        if name in done:
            self.borrowed += done[name][1]
        else:
            started = time.perf_counter()
            value = make()
            done[name] = value, time.perf_counter() - started
        return done[name][0]

    def _of_both(self, name: str, ask: Callable[[Side], Sequence[Any]]) -> tuple[Sequence[Any], Sequence[Any]]:
        """What both sides answer; the reference's answer serves every candidate that is asked the same."""
        texts = tuple(prompt.encode(self.candidate) for prompt in self.prompts)
        key = f"{name} {self.reference.variant.digest} {hash(texts)}"
        own = self._once(name, lambda: ask(self.candidate))
        return own, self._once(key, lambda: ask(self.reference), self.of_references)

    @property
    def decoded(self) -> list[tuple[Generation, Generation]]:
        """The greedy text of both sides."""

        def ask(side: Side) -> list[Generation]:
            encoded = [prompt.encode(self.candidate) for prompt in self.prompts.take(PROMPTS)]
            return side.generate(encoded, SamplingParams(NEW_TOKENS))

        return list(zip(*self._of_both("decoded", ask), strict=True))

    @property
    def scored(self) -> tuple[Sequence[TopLogprobs], Sequence[TopLogprobs]]:
        """What both sides think of given text."""

        def ask(side: Side) -> Sequence[TopLogprobs]:
            encoded = [prompt.encode(self.candidate) for prompt in self.prompts]
            return side.score([Continuation(ids[:1], ids[1:]) for ids in encoded if len(ids) > LENGTH][:PROMPTS])

        return self._of_both("scored", ask)

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
        return _loaded_by(side).model

    def generate(self, model: Any, inputs: dict[str, Any], max_new_tokens: int, _kwargs: object) -> Any:
        """Greedy tokens, with what the candidate's optimizations ask of `generate`."""
        arguments: dict[str, Any] = {}
        rows = len(inputs["input_ids"])
        if model is self.model(self.candidate):
            plan = _loaded_by(self.candidate).plan
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
