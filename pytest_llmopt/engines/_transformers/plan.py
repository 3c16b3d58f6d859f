"""What the optimizations of a variant ask of Transformers, gathered before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.applying import ModelSource
from pytest_llmopt.core.errors import CombinationError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable


def _no_engine(source: str, **_options: Any) -> Any:
    """In place of an engine's way to open a model."""
    msg = f"no engine is there to open {source}"
    raise ModelError(msg)


@dataclass
class LoadPlan(ModelSource):
    """What to load and how, what to do to the loaded model, and what every `generate` call is given."""

    load: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the engine's loader."""
    after_load: list[Callable[[Any], None]] = field(default_factory=list)
    """Called on the loaded model, in the order in which the optimizations were stacked."""
    measure: dict[str, Callable[[Any], float]] = field(default_factory=dict)
    """Figures to take of the loaded model when it is inspected, by name, for claims to be made about."""
    generate: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of every `generate` call."""
    per_call: list[Callable[[Any, int], dict[str, Any]]] = field(default_factory=list)
    """Keyword arguments made anew for each `generate` call, from the model and the batch size."""
    max_batch: int | None = None
    """The most prompts in one `generate` call, or None where the engine may choose."""
    fixed_shapes: bool = False
    """Every batch must have the same shape, since another shape costs a compilation."""
    speculative: bool = False
    """One target pass may emit several tokens; passes and drafts are counted."""
    extra_tokens: int = 0
    """Tokens beyond the new ones that a forward pass may be fed: the drafts that it verifies."""
    draft: str | None = None
    """Folder or hub id of the draft model."""
    max_length: int | None = None
    """The most tokens, prompt and output together, that the optimization has room for."""
    open: Callable[..., Any] = _no_engine
    """Opens another causal language model as the engine opens its own, from a folder or hub id, with keyword arguments
    of its loader: every tensor of the checkpoint in the model, in evaluation mode. `ModelError` where it is not."""

    def set(self, section: str, key: str, value: object, *, by: str) -> None:
        """Set a keyword argument that no other optimization of the variant may have set.

        Raises:
            CombinationError: it is set already, to something else.
        """
        arguments: dict[str, Any] = getattr(self, section)
        if key in arguments and arguments[key] != value:
            msg = f"{by} sets {section} argument {key!r} to {value!r}, but it is already {arguments[key]!r}"
            raise CombinationError(msg)
        arguments[key] = value
