"""What an engine takes and gives: token ids and log-probabilities, never strings and never framework tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeAlias, runtime_checkable

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.values import Count, CountOrNone, Range, Seed, fit_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_llmopt.core.inspection import Inspection, Work
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.variant import Variant

TokenIds: TypeAlias = tuple[int, ...]
COLDEST = 1e-3
"""The lowest temperature above 0: below it logits are divided beyond what float32 holds."""


@dataclass(frozen=True)
class SamplingParams:
    """How to choose the next token. Temperature 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 switch a filter off."""

    max_new_tokens: Count = 64
    temperature: Annotated[float, Range(0, 100)] = 0.0
    top_k: CountOrNone = 0
    top_p: Annotated[float, Range(above=0, at_most=1)] = 1.0
    min_p: Annotated[float, Range(0, below=1)] = 0.0
    seed: Seed = 0
    ignore_eos: bool = False
    """Go on to `max_new_tokens` whatever comes, as timing needs."""
    stop_token_ids: tuple[CountOrNone, ...] = ()
    """Tokens that end a generation as the end-of-sequence token does, and are emitted as it is."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        fit_fields(self)
        if 0 < self.temperature < COLDEST:
            msg = f"temperature={self.temperature} divides logits beyond all bounds; give 0 for greedy, or {COLDEST} up"
            raise OptionError(msg)
        if self.ignore_eos and self.stop_token_ids:
            msg = f"ignore_eos=True goes on whatever comes, stop_token_ids={self.stop_token_ids} do not: give one"
            raise OptionError(msg)

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0


@dataclass(frozen=True)
class Continuation:
    """Given tokens after a context: what teacher forcing scores."""

    prompt_ids: TokenIds
    token_ids: TokenIds

    def __post_init__(self) -> None:
        """Refuse a continuation that no causal model can score."""
        if not self.prompt_ids or not self.token_ids:
            msg = "a continuation needs at least one token of context and one token to score"
            raise OptionError(msg)

    def __len__(self) -> int:
        """The length of context and continuation together, in tokens."""
        return len(self.prompt_ids) + len(self.token_ids)


@dataclass(frozen=True)
class Timing:
    """When the tokens of a batch came, by the wall clock."""

    ttft_s: float
    """Time to first token: from the call to the end of the first step, prefill included."""
    decode_s: float
    """Time of all later steps."""
    decode_tokens: int
    """Tokens that each prompt of the batch got in those steps."""


@dataclass(frozen=True)
class DecodeStep:
    """One forward pass of the target model: it verifies the drafts and adds one token of its own."""

    emitted: int
    """Tokens that it added, at least one."""
    drafted: int = 0
    """Tokens proposed to it."""

    @property
    def accepted(self) -> int:
        """Proposals that were accepted: all that it emitted but the last, which is the target's own."""
        return min(self.emitted - 1, self.drafted)


@dataclass(frozen=True, eq=False)
class Generation:
    """One decoded prompt with the log-probabilities that the decode path acted on."""

    prompt_ids: TokenIds
    logprobs: TopLogprobs
    """One position per emitted token, before temperature and filters: `[tokens]`."""
    finish_reason: Literal["eos", "stop", "length"]
    """`stop` where a token of `stop_token_ids` ended it."""
    steps: tuple[DecodeStep, ...]
    """The target passes that this prompt took part in, in order."""
    timing: Timing
    """Of the batch that it was decoded in."""
    overrun: int = 0
    """Tokens emitted after the one that ended it, padding aside: there should be none."""

    @property
    def token_ids(self) -> TokenIds:
        """The emitted tokens, with the one that ended them where there was one."""
        return tuple(int(token) for token in self.logprobs.token_ids)

    @property
    def drafted_tokens(self) -> int:
        """Tokens that a draft proposed, accepted or not."""
        return sum(step.drafted for step in self.steps)

    @property
    def accepted_tokens(self) -> int:
        """Proposed tokens that were accepted."""
        return sum(step.accepted for step in self.steps)

    @property
    def continuation(self) -> Continuation:
        """What to teacher-force through the other side."""
        return Continuation(self.prompt_ids, self.token_ids)


@dataclass(frozen=True)
class Footprint:
    """Memory held by a loaded model, measured on its live tensors, in bytes."""

    weight_bytes: int
    parameters: int
    """Logical parameter count: what the weights stand for, not how they are packed."""
    bytes_by_dtype: Mapping[str, int] = field(default_factory=dict)


class Engine(Protocol):
    """One way to run a model. Built by `open(variant, ...)` of its file; closed by the loader."""

    @property
    def variant(self) -> Variant:
        """What it runs."""
        ...

    @property
    def vocab_size(self) -> int:
        """The number of entries of the output distribution."""
        ...

    @property
    def dtype(self) -> str:
        """The dtype that it computes in, such as `float32`."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a generation."""
        ...

    @property
    def max_length(self) -> int | None:
        """The longest sequence it can process, prompt and output together, or None when it does not know."""
        ...

    def encode(self, text: str) -> TokenIds:
        """The tokens of a prompt, special tokens included."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text for a person to read, special tokens included."""
        ...

    def generate(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> list[Generation]:
        """Decode every prompt through the real decode path, in the order given.

        Raises:
            RequestError: a prompt is empty, or longer with its output than the engine has room for.
        """
        ...

    def score(self, continuations: Sequence[Continuation]) -> list[TopLogprobs]:
        """Teacher-forced log-probabilities of each continuation, in the order given: one forward pass, no cache."""
        ...

    def force(
        self,
        continuations: Sequence[Continuation],
        *,
        prefill_chunk: int | None = None,
        batch_size: int | None = None,
        report_prompt: bool = False,
        seed: int = 0,
    ) -> list[Generation]:
        """Drive given tokens through the real decode path, as if each had been chosen, in the order given.

        Args:
            continuations: prompts with the tokens to emit; one that would end a text does not.
            prefill_chunk: process the prompt in pieces of that many tokens.
            batch_size: the most rows to decode together, where the engine is free to choose; None leaves it the choice.
            report_prompt: prefill the whole continuation, and give what the prefill thinks of every token but the
                first: many positions in few passes. The answer's prompt is then that first token.
            seed: state of all global random generators at the start; a sound engine draws from none of them.

        Raises:
            RequestError: a continuation is longer than the engine has room for, or the architecture cannot process a
                prompt in pieces.
        """
        ...

    @property
    def draft(self) -> Variant | None:
        """The draft model that proposes tokens, where there is one."""
        ...

    def footprint(self) -> Footprint:
        """The memory that its weights hold now."""
        ...

    def compilations(self) -> int:
        """How many graphs have been compiled for it so far; 0 where nothing compiles."""
        ...

    def inspect(self) -> Inspection:
        """What it is made of and what it runs, seen on the real objects during a short `generate` of its own."""
        ...

    def work(self, prompts: Sequence[TokenIds], sampling: SamplingParams) -> Work:
        """What a `generate` that was made before does when it is made again, some times; `Work()` if it cannot tell."""
        ...

    def close(self) -> None:
        """Free what it holds. Called once."""
        ...


@runtime_checkable
class KnowsLoadingCosts(Protocol):
    """An engine that says what its model took to come about."""

    @property
    def loading_costs(self) -> Mapping[str, float]:
        """`load_s`, `load_peak_bytes`, and `quantize_s` where that was done apart. What is not known is not there."""
        ...


@runtime_checkable
class Saves(Protocol):
    """An engine that can write its model, as it runs, to a folder that it can be opened from."""

    def save(self, folder: Path) -> None:
        """Write weights, configuration and tokenizer.

        Raises:
            RequestError: the library cannot save this model; carries its own words.
        """
        ...


@runtime_checkable
class KnowsWeights(Protocol):
    """An engine that can tell whether two models hold the same weights."""

    def weights(self) -> Mapping[str, object]:
        """By name of a saved tensor, a value that is another once the tensor is changed, with shape and dtype."""
        ...


@runtime_checkable
class Poisons(Protocol):
    """An engine that can fill the unused places of its KV cache with something else."""

    def poisoned(self) -> AbstractContextManager[str]:
        """Inside it, unused places hold what the engine's kernels promise to ignore; gives that content in words."""
        ...


@runtime_checkable
class KnowsAbilities(Protocol):
    """An engine that says what its architecture cannot do although others can."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """By name (`left_padding`, `prefill_chunk`), the reason, in the library's words where it has any."""
        ...


@runtime_checkable
class Processes(Protocol):
    """An engine that may have something between the model and the choice of a token, as a repetition penalty."""

    def processed(
        self, continuations: Sequence[Continuation], stop_token_ids: TokenIds = ()
    ) -> list[TopLogprobs] | None:
        """What the choice of each given token rests on, in the order given; None where that is the model alone.

        Args:
            continuations: what was emitted, none with an end before its last token.
            stop_token_ids: those of the request, which a processor may keep away as it does an end.
        """
        ...


@runtime_checkable
class HasEntryPoints(Protocol):
    """An engine whose model can be called in several ways that should all give the same."""

    @property
    def entry_points(self) -> tuple[str, ...]:
        """What such a call is given or asked for beside the text, in words."""
        ...

    def score_through(self, entry: str, continuation: Continuation) -> TopLogprobs:
        """What `score` gives of one continuation, by such a call.

        Raises:
            RequestError: the model does not answer it; carries its own words.
        """
        ...


@runtime_checkable
class Varies(Protocol):
    """An engine that can compute the same function by other arithmetic, in place: what then differs is rounding."""

    def varied(self, change: str, seed: int = 0) -> AbstractContextManager[None]:
        """Inside it, this engine computes by other arithmetic; afterwards it is to the bit what it was. Can be nested.

        Args:
            change: `permuted` (the order of neurons and residual channels), `eager attention`, or `float32`, in which
                16-bit weights are widened; nothing changes where they have more bits already.
            seed: of an order that is drawn at random.

        Raises:
            OptionError: there is no such change.
            RequirementMissingError: the architecture or the weights do not allow it. That can also come from a request
                inside.
        """
        ...


@runtime_checkable
class Prechecks(Protocol):
    """An engine whose class can tell, in no time, that a variant will not load: before anything heavy is imported."""

    @staticmethod
    def precheck(variant: Variant, policy: LoadPolicy) -> None:
        """Accept what may load; asked of the class, of every variant of a run before its first test.

        Raises:
            ModelError: the model cannot be loaded, as its files show.
            NotHereError: it is not on this machine, unless a fixture makes it.
            OptionError: a device or backend that does not exist.
            RequirementMissingError: a device that is not there, or a draft that nobody named.
        """
        ...


def bare(side: Engine) -> Engine:
    """The engine behind a side of a comparison, which may do more than a side tells; an engine itself."""
    engine: Engine = getattr(side, "engine", side)
    return engine
