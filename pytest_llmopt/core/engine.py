"""What an engine takes and gives: token ids and log-probabilities, never strings and never framework tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_llmopt.core.answers import Footprint, Generation
    from pytest_llmopt.core.inspection import Inspection, Work
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.tokens import Continuation, TokenIds
    from pytest_llmopt.core.variant import Variant


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
