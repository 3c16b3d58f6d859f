"""What a loaded engine is made of and what it runs, seen on the real objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Projection:
    """One matrix product of the model, packed or not; its bias is left out."""

    name: str
    kind: str
    """Class of the module and of its weight, such as `Linear4bit[Params4bit]`."""
    weight_bytes: int
    """Held by its live tensors, scales and codes included."""
    parameters: int
    """What it stands for: inputs times outputs."""
    is_head: bool = False
    """Whether it is the output embedding, which most methods leave as it is."""
    products: int | None = None
    """How often its weight, in the very form that it is held in, was given to the framework's linear product."""
    columns: int = 0
    """Its inputs; 0 where they are not known."""
    is_expert: bool = False
    """Whether it is one matrix of a stack of experts, such as `experts.down_proj[3]`, which does not run alone."""

    @property
    def bytes_per_parameter(self) -> float:
        """Bytes held for each weight that it stands for."""
        return self.weight_bytes / self.parameters


@dataclass(frozen=True)
class CacheInUse:
    """The KV cache object that the model was handed in a decode step."""

    kind: str
    """Its class, such as `StaticCache`."""
    layers: Mapping[str, int]
    """Classes of its layers, with how many there are."""
    fixed_layers: int
    """Layers whose buffers kept their length from one decode step to the next."""
    length: int | None
    """The tokens that it was allocated for, or None where it grows."""
    state_layers: int = 0
    """Layers that hold a state of a fixed size instead of tokens: they neither grow nor have unused places."""
    window: int | None = None
    """The window of tokens, where no layer has room for more than its own: `length` is then at most that."""
    bytes_per_quantized_value: float | None = None
    """Held for each key and value that it keeps in fewer bits, scales included; None where it keeps none so."""


@dataclass(frozen=True)
class ForwardPass:
    """The work of one forward pass of the model."""

    rows: int
    tokens: int
    """Tokens of each row that were fed to it, masked padding aside."""
    logits: int
    """Positions of each row that it computed logits for."""


@dataclass(frozen=True)
class Work:
    """What equal calls do once the first of them is over. Missing figures are None, never zero."""

    kept_bytes: float | None = None
    """What a call leaves alive beyond the call before it: the least of several calls, so that it is of each of them."""
    kept: str = ""
    """Some of it, in words."""
    eager_passes: int | None = None
    """Forward passes in which no part of the model ran compiled."""
    batches: int = 0
    """Batches that a call was cut into, each with a prefill of its own."""


@dataclass(frozen=True)
class Inspection:
    """What an engine runs, measured during a short `generate` of its own. Missing figures are None, never zero."""

    modules: Mapping[str, int] = field(default_factory=dict)
    """Classes of the model's modules, with how many there are."""
    projections: tuple[Projection, ...] = ()
    attention: str | None = None
    """The attention implementation that the configuration names."""
    attention_calls: Mapping[str, int] | None = None
    """The implementations that were really called, by the name they are registered under, with how often."""
    cache: CacheInUse | None = None
    max_batch: int | None = None
    """The most prompts that it decodes together, or None where there is no limit."""
    sliding_window: int | None = None
    """The smallest attention window of its layers, in tokens."""
    rows: int = 1
    """How many rows were asked for in that `generate`."""
    passes: tuple[ForwardPass, ...] | None = None
    """Its forward passes, in order."""
    extra_tokens: int = 0
    """Tokens beyond the new ones that its optimizations may feed in a pass: the drafts that it verifies."""
    longest_request: int | None = None
    """The most tokens, prompt and output together, that it was asked for so far."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Figures that its optimizations asked for, by name, taken after it decoded."""
    other_weights: Mapping[str, int] = field(default_factory=dict)
    """Parameters of matrices that are no projection, embedding or norm, by name: routers, convolutions, the unknown."""
    adapted_modules: int = 0
    """Layers that run with an adapter beside them."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """What its architecture cannot do although others can (`left_padding`, `prefill_chunk`), with the reason."""
    checkpoint: Mapping[str, str] = field(default_factory=dict)
    """What it says beside its weights: the facts of `core.checkpoint.FACTS` by name, as JSON; none where not known."""
    excused: tuple[str, ...] = ()
    """Tensors that its checkpoint or its model lacks, and that the architecture declares as such."""

    @property
    def body(self) -> tuple[Projection, ...]:
        """The matrix products other than the output embedding: what a quantizer replaces."""
        return tuple(item for item in self.projections if not item.is_head)
