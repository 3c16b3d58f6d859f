"""An engine that remembers what it has scored: candidates that emit the same tokens are judged by the same answers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast

from pytest_llmopt.core.engine import EngineWrapper
from pytest_llmopt.core.fit import require_fit
from pytest_llmopt.core.requests import Score

if TYPE_CHECKING:
    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.requests import Answer, Request
    from pytest_llmopt.core.tokens import Continuation


@dataclass
class Scores:
    """What references have scored, least recently used first, up to `limit_bytes`.

    A reference is not what is tested, so asking it twice for the same tokens would only cost time.
    """

    limit_bytes: int = 2**28
    _kept: OrderedDict[tuple[str, Continuation], TopLogprobs] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def answer(self, engine: Engine, request: Score) -> tuple[TopLogprobs, ...]:
        """The answer to a request; only what is not known yet is asked of the engine."""
        digest = engine.info.variant.digest
        keys = [(digest, item) for item in request.continuations]
        known = {key: self._kept[key] for key in keys if key in self._kept}
        unknown = list(dict.fromkeys(key for key in keys if key not in known))
        if unknown:
            asked = Score(tuple(item for _, item in unknown))
            answer = engine.ask(asked)
            require_fit(asked, answer, engine.info.variant.engine)  # before it is kept for others
            known.update(zip(unknown, answer, strict=True))
        for key in keys:
            self._keep(key, known[key])
        return tuple(known[key] for key in keys)

    def _keep(self, key: tuple[str, Continuation], scored: TopLogprobs) -> None:
        if key not in self._kept:
            self._kept[key] = scored
            self._bytes += scored.nbytes
        self._kept.move_to_end(key)
        while self._bytes > self.limit_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


@dataclass(frozen=True)
class RememberingEngine(EngineWrapper):
    """The engine that it wraps, which scores nothing twice unless it is asked to do so afresh."""

    same_answers: ClassVar[bool] = True

    scores: Scores

    def ask(self, request: Request[Answer]) -> Answer:
        """What is remembered, or the engine's answer."""
        if isinstance(request, Score) and not request.fresh:
            return cast("Answer", self.scores.answer(self.engine, request))
        return self.engine.ask(request)
