"""The other ways by which a program calls a model's forward: each should give the logits of the plain call."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import RequestError
from pytest_llmopt.engines._transformers.evidence import top_logprobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmopt.core.logprobs import TopLogprobs
    from pytest_llmopt.core.tokens import Continuation
    from pytest_llmopt.engines._transformers.model_loading import LoadedModel

REFUSALS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
OWN = frozenset({"inputs_embeds", "logits_to_keep", "position_ids"})
"""Arguments that a forward has to name itself: of those that it only hands on, some models make nothing."""


@dataclass(frozen=True)
class Entry:
    """One way to call a forward."""

    argument: str
    """What the forward has to take."""
    change: Callable[[Any, dict[str, Any], slice], dict[str, Any]]
    """Of the model, the arguments of the plain call and the positions that are asked about: the arguments."""
    gives_part: bool = False
    """Whether it gives the logits of those positions only."""


def _last(_model: Any, given: dict[str, Any], asked: slice) -> dict[str, Any]:
    # The last position says what comes behind the text, which nobody asks about.
    return given | {"logits_to_keep": int(given["input_ids"].shape[1]) - asked.start}


def _some(_model: Any, given: dict[str, Any], asked: slice) -> dict[str, Any]:
    import torch

    return given | {"logits_to_keep": torch.arange(asked.start, asked.stop, device=given["input_ids"].device)}


def _embedded(model: Any, given: dict[str, Any], _asked: slice) -> dict[str, Any]:
    rest = {name: value for name, value in given.items() if name != "input_ids"}
    return rest | {"inputs_embeds": model.get_input_embeddings()(given["input_ids"])}


def _unmasked(_model: Any, given: dict[str, Any], _asked: slice) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "attention_mask"}


def _positioned(_model: Any, given: dict[str, Any], _asked: slice) -> dict[str, Any]:
    import torch

    ids = given["input_ids"]
    return given | {"position_ids": torch.arange(ids.shape[1], device=ids.device)[None]}


def _labeled(_model: Any, given: dict[str, Any], _asked: slice) -> dict[str, Any]:
    return given | {"labels": given["input_ids"]}


def _setting(name: str, value: object) -> Callable[[Any, dict[str, Any], slice], dict[str, Any]]:
    return lambda _model, given, _asked: given | {name: value}


ENTRIES = {
    "logits of the last tokens only": Entry("logits_to_keep", _last, gives_part=True),
    "logits of some positions only": Entry("logits_to_keep", _some, gives_part=True),
    "embeddings for ids": Entry("inputs_embeds", _embedded),
    "no attention mask": Entry("attention_mask", _unmasked),
    "position ids": Entry("position_ids", _positioned),
    "attention weights": Entry("output_attentions", _setting("output_attentions", value=True)),
    "hidden states": Entry("output_hidden_states", _setting("output_hidden_states", value=True)),
    "a cache": Entry("use_cache", _setting("use_cache", value=True)),
    "a tuple": Entry("return_dict", _setting("return_dict", value=False)),
    "labels": Entry("labels", _labeled),
}
"""By what is given or asked for."""


def entries_of(model: Any) -> tuple[str, ...]:
    """The names of those that the forward of a model has arguments for."""
    parameters, anything = _taken(model)
    return tuple(
        name
        for name, entry in ENTRIES.items()
        if entry.argument in parameters or (anything and entry.argument not in OWN)
    )


def score(loaded: LoadedModel, item: Continuation, name: str, top_k: int) -> TopLogprobs:
    """The log-probabilities of a continuation's tokens, by one call of that kind.

    Raises:
        RequestError: the forward ends in an error, or gives logits of other positions than it was asked for.
    """
    import torch

    model, entry = loaded.model, ENTRIES[name]
    parameters, anything = _taken(model)
    ids = torch.tensor([item.prompt_ids + item.token_ids], device=model.device)
    asked = slice(len(item.prompt_ids) - 1, len(item) - 1)
    plain = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False, "return_dict": True}
    plain = {key: value for key, value in plain.items() if anything or key in parameters}
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            output = model(**entry.change(model, plain, asked))
    except REFUSALS as error:
        msg = f"the forward with {name} ends in {type(error).__name__}: {error}"
        raise RequestError(msg) from error
    # A tuple holds no loss where no labels are given, so that its logits come first.
    logits = output[0] if isinstance(output, tuple) else output.logits
    expected = ids.shape[1]
    if entry.gives_part:
        expected = asked.stop - asked.start if entry.change is _some else expected - asked.start
    if getattr(logits, "shape", (0, 0))[1] != expected:
        msg = f"the forward with {name} gives logits {tuple(getattr(logits, 'shape', ()))}, not of {expected} positions"
        raise RequestError(msg)
    chosen = logits[0, : len(item.token_ids)] if entry.gives_part else logits[0, asked]
    return top_logprobs(chosen, torch.tensor(item.token_ids, device=chosen.device), top_k)


def _taken(model: Any) -> tuple[frozenset[str], bool]:
    """Arguments that the forward of its class names, below an adapter; and whether it takes any other."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = inspect.signature(type(inner).forward).parameters
    anything = any(own.kind is inspect.Parameter.VAR_KEYWORD for own in parameters.values())
    return frozenset(parameters), anything
