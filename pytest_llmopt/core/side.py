"""`candidate` or `reference` as checks see it: an engine, its tokenizer, what the session tells, a method a request."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pytest_llmopt.core import requests
from pytest_llmopt.core.errors import NotAnsweredError
from pytest_llmopt.core.fit import require_fit
from pytest_llmopt.core.varied import VariedEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pytest_llmopt.core.answers import Footprint, Generation
    from pytest_llmopt.core.budget import Budget
    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.inspection import Inspection, Work
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.requests import Answer, Request
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.tokens import Continuation, TokenIds, Tokenizer
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.core.verdict import Verdict

Role: TypeAlias = Literal["candidate", "reference"]


@dataclass(frozen=True)
class Context:
    """What a check is told beside its arguments, and where its verdict goes."""

    seed: int = 0
    budget: Budget | None = None
    warn_if_inconclusive: bool = False
    """An INCONCLUSIVE verdict warns instead of failing the test."""
    requires_evidence: bool = False
    """A verdict with anything that could not be judged fails."""
    open: Callable[[Variant], Side] | None = None
    """Another variant of the model under test, loaded once and timed, such as a draft."""
    cache: Path = Path(".llmopt/cache")
    """Where results that are expensive to get again are kept."""
    record: Callable[[Verdict, float, float], None] = lambda _verdict, _seconds, _engine_seconds: None
    """Keeps the verdict of a check, with its wall seconds and its engine seconds."""
    engine_seconds: Callable[[], float] = lambda: 0.0
    """What engines have worked so far: loading, generating, scoring."""
    reopen: Callable[[Variant], Side] | None = None
    """A variant loaded anew, whatever is loaded already; who calls it closes the engine."""
    guarded: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around a check: raises UnsoundReferenceError where the reference is not what it was when it ends."""
    refuse: Callable[[str, Exception, float, float], None] = lambda _check, _error, _seconds, _engine_seconds: None
    """Keeps that a check has no verdict, and the exception for it, with its wall seconds and its engine seconds."""
    raised: Callable[[Exception], None] = lambda _error: None
    """Told of every exception whose record is kept already."""


@dataclass(frozen=True, eq=False)
class Side:
    """Sugar over `engine.ask`, written once: no engine, and nothing that wraps one, has these methods."""

    role: Role
    engine: Engine
    tokenizer: Tokenizer
    context: Context = field(default_factory=Context)
    is_fresh: bool = False
    """Whether it is scored anew, whatever was scored before."""

    def __repr__(self) -> str:
        """What a failing test shows of it."""
        return f"<{self.role}: {self.variant.label} of {self.variant.model}>"

    @property
    def variant(self) -> Variant:
        """What it runs."""
        return self.engine.info.variant

    @property
    def vocab_size(self) -> int:
        """The number of entries of the output distribution."""
        return self.engine.info.vocab_size

    @property
    def dtype(self) -> str:
        """The dtype that it computes in."""
        return self.engine.info.dtype

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a generation."""
        return self.engine.info.eos_token_ids

    @property
    def max_length(self) -> int | None:
        """The longest sequence it can process, in tokens, or None when it does not know."""
        return self.engine.info.max_length

    @property
    def draft(self) -> Variant | None:
        """The draft model that proposes tokens, where there is one."""
        return self.engine.info.draft

    def encode(self, text: str) -> TokenIds:
        """The tokens of a prompt, special tokens included."""
        return self.tokenizer.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text for a person to read, special tokens included."""
        return self.tokenizer.decode(token_ids)

    def can(self, *kinds: type[Request[Any]]) -> bool:
        """Whether its engine answers such requests."""
        return self.engine.answers.issuperset(kinds)

    def require(self, *kinds: type[Request[Any]]) -> None:
        """Refuse an engine that a check can do nothing with.

        Raises:
            NotAnsweredError: it does not answer such requests; its name is the first one's.
        """
        for kind in kinds:
            if kind not in self.engine.answers:
                raise NotAnsweredError(kind.requirement(), f"the {self.role} cannot be judged: {self.unanswered(kind)}")

    def unanswered(self, kind: type[Request[Any]]) -> str:
        """Why something is not judged where its engine does not answer such requests."""
        return f"engine {self.variant.engine!r} does not answer {kind.__name__}"

    def ask(self, request: Request[Answer]) -> Answer:
        """The answer of its engine.

        Raises:
            NotAnsweredError: the engine does not know such requests.
            AnswerError: its answer is to another request.
        """
        self.require(type(request))
        answer = self.engine.ask(request)
        require_fit(request, answer, self.variant.engine)
        return answer

    def generate(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> list[Generation]:
        """Decode every prompt through the real decode path, in the order given."""
        return list(self.ask(requests.Generate(tuple(prompts), sampling)))

    def score(self, continuations: Sequence[Continuation]) -> list[TopLogprobs]:
        """Teacher-forced log-probabilities of each continuation, in the order given: one forward pass, no cache."""
        return list(self.ask(requests.Score(tuple(continuations), fresh=self.is_fresh)))

    def force(
        self,
        continuations: Sequence[Continuation],
        *,
        prefill_chunk: int | None = None,
        batch_size: int | None = None,
        report_prompt: bool = False,
        seed: int = 0,
        unused_cache: float | None = None,
    ) -> list[Generation]:
        """Drive given tokens through the real decode path; the options are those of `ForceDecode`."""
        request = requests.ForceDecode(
            tuple(continuations), prefill_chunk, batch_size, report_prompt, seed, unused_cache
        )
        return list(self.ask(request))

    def footprint(self) -> Footprint:
        """The memory that its weights hold now."""
        return self.ask(requests.MeasureMemory())

    def compilations(self) -> int:
        """How many graphs have been compiled for it so far."""
        return self.ask(requests.CountGraphs())

    def inspect(self) -> Inspection:
        """What it is made of and what it runs."""
        return self.ask(requests.Inspect())

    def work(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> Work:
        """What a `generate` that was made before does when it is made again."""
        return self.ask(requests.RepeatCall(tuple(prompts), sampling))

    @property
    def lacks(self) -> Mapping[str, str]:
        """What its architecture cannot do although others can, with the reason; nothing where it cannot say."""
        return self.ask(requests.FindLacks()) if self.can(requests.FindLacks) else {}

    def fresh(self) -> Side:
        """The same, where nothing that was scored before is taken for an answer."""
        return replace(self, is_fresh=True)

    def varied(self, change: str, seed: int = 0) -> Side:
        """The same function by other arithmetic, as `Vary` has it."""
        return replace(self, engine=VariedEngine(self.engine, change, seed))

    def close(self) -> None:
        """Free what its engine holds: of a side that was opened apart, once."""
        self.engine.close()
