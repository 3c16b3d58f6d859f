"""What an engine can be asked: frozen, typed, plain data, so that it can be asked in another process as well.

Each request names the type of its answer, `Request[Answer]`; `engine.ask(request)` gives exactly that. No engine has to
know them all: what it knows is in `engine.answers`, and what it does not know is *not judged*, which is never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytest_llmopt.core.answers import Footprint, Generation
from pytest_llmopt.core.inspection import Inspection, Work
from pytest_llmopt.core.logprobs import FloatArray, TopLogprobs
from pytest_llmopt.core.probing import AffineMap, ProjectionShape, StoredMap

if TYPE_CHECKING:
    from pytest_llmopt.core.logprobs import IntArray
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.tokens import Continuation, TokenIds

Answer = TypeVar("Answer", covariant=True)  # noqa: PLC0105 - the word of the seam


class Request(Generic[Answer]):
    """A question to an engine. Its fields are plain data: numbers, text, tuples, arrays and frozen dataclasses."""

    @classmethod
    def requirement(cls) -> str:
        """What `--llmopt-require` calls it: `force_decode` of `ForceDecode`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def every_request() -> tuple[type[Request[Any]], ...]:
    """All that there are."""
    return tuple(Request.__subclasses__())


@dataclass(frozen=True)
class Generate(Request[tuple[Generation, ...]]):
    """Decode every prompt through the real decode path, in the order given.

    Raises:
        RequestError: a prompt is empty, or longer with its output than the engine has room for.
    """

    prompts: tuple[TokenIds, ...]
    sampling: SamplingParams


@dataclass(frozen=True)
class Score(Request[tuple[TopLogprobs, ...]]):
    """Teacher-forced log-probabilities of each continuation, in the order given: one forward pass, no cache."""

    continuations: tuple[Continuation, ...]
    fresh: bool = False
    """Compute it, whatever an earlier request has shown: to see whether an engine repeats itself."""


@dataclass(frozen=True)
class ForceDecode(Request[tuple[Generation, ...]]):
    """Drive given tokens through the real decode path, as if each had been chosen, in the order given.

    Raises:
        RequestError: a continuation is longer than the engine has room for, or the architecture cannot process a prompt
            in pieces.
    """

    continuations: tuple[Continuation, ...]
    """Prompts with the tokens to emit; one that would end a text does not."""
    prefill_chunk: int | None = None
    """Process the prompt in pieces of that many tokens."""
    batch_size: int | None = None
    """The most rows to decode together, where the engine is free to choose; None leaves it the choice."""
    report_prompt: bool = False
    """Prefill the whole continuation, and give what the prefill thinks of every token but the first: many positions in
    few passes. The answer's prompt is then that first token."""
    seed: int = 0
    """State of all global random generators at the start; a sound engine draws from none of them."""
    unused_cache: float | None = None
    """What the places of a fixed cache that hold no token are filled with; None leaves them as the library does."""


@dataclass(frozen=True)
class ScoreChoice(Request[tuple[TopLogprobs, ...] | None]):
    """What the choice of each given token rests on: behind a repetition penalty, say; None where that is the model."""

    continuations: tuple[Continuation, ...]
    """What was emitted, none with an end before its last token."""
    stop_token_ids: TokenIds = ()
    """Those of the request, which a processor may keep away as it does an end."""


@dataclass(frozen=True)
class Vary(Request[Answer]):
    """Another request, answered by the same function in other arithmetic: what then differs is rounding. Can be nested.

    Raises:
        OptionError: there is no such change.
        RequirementMissingError: the architecture or the weights do not allow it.
        NothingToChangeError: it is computed so already.
    """

    request: Request[Answer]
    change: str
    """`permuted` (the order of neurons and residual channels), `eager attention`, or `float32`, in which 16-bit weights
    are widened; nothing changes where they have more bits already."""
    seed: int = 0
    """Of an order that is drawn at random."""


@dataclass(frozen=True)
class MeasureMemory(Request[Footprint]):
    """The memory that the weights hold now."""


@dataclass(frozen=True)
class MeasureLoading(Request[Mapping[str, float]]):
    """`load_s`, `load_peak_bytes`, and `quantize_s` where that was done apart. What is not known is not there."""


@dataclass(frozen=True)
class Inspect(Request[Inspection]):
    """What it is made of and what it runs, seen on the real objects during a short decode of its own."""


@dataclass(frozen=True)
class CountGraphs(Request[int]):
    """How many graphs have been compiled for it so far; 0 where nothing compiles."""


@dataclass(frozen=True)
class RepeatCall(Request[Work]):
    """What a `Generate` that was asked before does when it is made again, some times."""

    prompts: tuple[TokenIds, ...]
    sampling: SamplingParams


@dataclass(frozen=True)
class FindLacks(Request[Mapping[str, str]]):
    """By name (`left_padding`, `prefill_chunk`), why its architecture cannot do what others can, in its words."""


@dataclass(frozen=True)
class ListEntryPoints(Request[tuple[str, ...]]):
    """The ways beside the plain one in which the model can be called and should give the same, in words."""


@dataclass(frozen=True)
class ScoreThrough(Request[TopLogprobs]):
    """What `Score` gives of one continuation, by such a call.

    Raises:
        RequestError: the model does not answer it; carries its own words.
    """

    entry: str
    continuation: Continuation


@dataclass(frozen=True)
class ReadWeights(Request[Mapping[str, object]]):
    """By name of a saved tensor, a value that is another once the tensor is changed, with shape and dtype."""


@dataclass(frozen=True)
class SaveCheckpoint(Request[None]):
    """Write weights, configuration and tokenizer, as the model runs, to a folder that it can be opened from.

    Raises:
        RequestError: the library cannot save this model; carries its own words.
    """

    folder: str


@dataclass(frozen=True)
class DescribeProjection(Request[ProjectionShape]):
    """The size of one projection, and the order in which its inputs share scales."""

    projection: str


@dataclass(frozen=True, eq=False)
class ReadProjection(Request[StoredMap | None]):
    """The plain weights of a projection as they are stored; None where they are packed, or where there is no such one.

    An expert may lie apart in one engine and in a stack in another: `experts.3.up_proj` is found in the stack too.
    """

    projection: str
    outputs: IntArray


@dataclass(frozen=True, eq=False)
class MapProjection(Request[AffineMap]):
    """What a projection computes: the bias from zeros, the weights from the rows of the identity matrix."""

    projection: str
    outputs: IntArray


@dataclass(frozen=True, eq=False)
class RunProjection(Request[FloatArray]):
    """What a projection gives for inputs of our choice: `[batch, tokens, inputs]` to `[batch, tokens, outputs]`."""

    projection: str
    inputs: FloatArray
    outputs: IntArray | None = None
