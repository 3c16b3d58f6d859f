"""The two sides of a comparison as a test sees them: an engine that is loaded on first use and timed."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_llmopt.core.context import Context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmopt.core.answers import Footprint, Generation
    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.inspection import Inspection, Work
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.tokens import Continuation, TokenIds
    from pytest_llmopt.core.variant import Variant


@dataclass
class Stopwatch:
    """Seconds that engines have worked: loading, generating, scoring."""

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add what happens inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


@dataclass
class Scores:
    """What references have scored: candidates that emit the same tokens are all judged by the same log-probabilities.

    A reference is not what is tested, so asking it twice for the same tokens would only cost time. Least recently used
    first, up to `limit_bytes`.
    """

    limit_bytes: int = 2**28
    _kept: OrderedDict[tuple[str, Continuation], TopLogprobs] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def score(self, engine: Engine, continuations: Sequence[Continuation]) -> list[TopLogprobs]:
        """Teacher-forced log-probabilities, in the order given; only what is not known yet is asked of the engine."""
        digest = engine.variant.digest
        keys = [(digest, item) for item in continuations]
        known = {key: self._kept[key] for key in keys if key in self._kept}
        unknown = list(dict.fromkeys(key for key in keys if key not in known))
        if unknown:
            known.update(zip(unknown, engine.score([item for _, item in unknown]), strict=True))
        for key in keys:
            self._keep(key, known[key])
        return [known[key] for key in keys]

    def _keep(self, key: tuple[str, Continuation], scored: TopLogprobs) -> None:
        if key not in self._kept:
            self._kept[key] = scored
            self._bytes += scored.nbytes
        self._kept.move_to_end(key)
        while self._bytes > self.limit_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


@dataclass
class Side:
    """`candidate` or `reference`: an engine by delegation, so that every check takes either a side or an engine."""

    role: Literal["candidate", "reference"]
    variant: Variant
    engine: Engine
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    context: Context = field(default_factory=Context)
    scores: Scores | None = None
    """Of a reference in a session: what it and others have scored already."""

    def __repr__(self) -> str:
        """What a failing test shows of it."""
        return f"<{self.role}: {self.variant.label} of {self.variant.model}>"

    @property
    def vocab_size(self) -> int:
        """The number of entries of the output distribution."""
        return self.engine.vocab_size

    @property
    def dtype(self) -> str:
        """The dtype that it computes in."""
        return self.engine.dtype

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a generation."""
        return self.engine.eos_token_ids

    @property
    def max_length(self) -> int | None:
        """The longest sequence it can process, in tokens."""
        return self.engine.max_length

    def encode(self, text: str) -> TokenIds:
        """The tokens of a prompt, special tokens included."""
        return self.engine.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text for a person to read."""
        return self.engine.decode(token_ids)

    def generate(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> list[Generation]:
        """Decode every prompt, in the order given."""
        with self.stopwatch.running():
            return self.engine.generate(prompts, sampling)

    def score(self, continuations: Sequence[Continuation]) -> list[TopLogprobs]:
        """Teacher-forced log-probabilities, in the order given."""
        with self.stopwatch.running():
            if self.scores is None:
                return self.engine.score(continuations)
            return self.scores.score(self.engine, continuations)

    def force(
        self,
        continuations: Sequence[Continuation],
        *,
        prefill_chunk: int | None = None,
        batch_size: int | None = None,
        report_prompt: bool = False,
        seed: int = 0,
    ) -> list[Generation]:
        """Drive given tokens through the decode path, in the order given."""
        with self.stopwatch.running():
            return self.engine.force(
                continuations,
                prefill_chunk=prefill_chunk,
                batch_size=batch_size,
                report_prompt=report_prompt,
                seed=seed,
            )

    @property
    def draft(self) -> Variant | None:
        """The draft model that proposes tokens, where there is one."""
        return self.engine.draft

    def footprint(self) -> Footprint:
        """The memory that its weights hold now."""
        return self.engine.footprint()

    def compilations(self) -> int:
        """How many graphs have been compiled for it so far."""
        return self.engine.compilations()

    def inspect(self) -> Inspection:
        """What it is made of and what it runs."""
        with self.stopwatch.running():
            return self.engine.inspect()

    def work(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> Work:
        """What a `generate` that was made before does when it is made again."""
        with self.stopwatch.running():
            return self.engine.work(prompts, sampling)

    def close(self) -> None:
        """Nothing: the loader owns the engine."""
