"""What the architecture of a loaded model cannot do, whatever its optimizations are: declared by the library, or tried.

Only where the class itself gives a reason to doubt is anything tried: a forward that takes no `position_ids` leaves
left padding to the model; a state that cannot go back may take padding in, and not go on in a second piece of a
prompt. Everywhere else the library promises both, and a model that breaks the promise is judged, not excused.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pytest_llmopt.engines._transformers.scoring import padding_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmopt.engines._transformers.model_loading import LoadedModel

BATCHES, CHUNKS, SPECULATION = "left_padding", "prefill_chunk", "speculation"
SHORT, LONG, PIECE = 4, 11, 4
"""Tokens of a row that is padded, of the one beside it, and of a piece of a prompt."""
LIMIT = {"float64": 3e-5, "float32": 3e-5}
COARSE = 1e-2
"""Nats of KL from which two answers are not the same function, by dtype and in 16 bits: ten times the rounding of each.
A function that is another one by little (positions off by the padding, in a small model: 5e-4) is one."""


def speculates(model: Any) -> str:
    """Why a model cannot take back proposals, in the library's words; empty where it can."""
    kind = type(_inner(model))
    if getattr(kind, "_is_stateful", False):
        return f"assisted generation is not supported with stateful models, such as {kind.__name__}"
    return "" if _has_cache(kind) else "assisted decoding requires a cache"


def doubtful(model: Any) -> frozenset[str]:
    """What the class of a model does not promise to do."""
    kind = type(_inner(model))
    stateful = getattr(kind, "_is_stateful", False)
    doubts = {
        BATCHES: stateful or "position_ids" not in inspect.signature(kind.forward).parameters,
        CHUNKS: stateful or not _has_cache(kind),
    }
    return frozenset(name for name, doubt in doubts.items() if doubt)


def lacks_padding(loaded: LoadedModel, tokens: Sequence[int]) -> str:
    """Why rows of different lengths cannot share a batch; empty where they can."""
    import torch

    model, device = loaded.model, loaded.model.device
    long = torch.tensor([_cycled(tokens, LONG)], device=device)
    short = torch.tensor([_cycled(tokens, SHORT)], device=device)
    padding = torch.full((1, LONG - SHORT), padding_of(loaded), device=device)
    mask = torch.ones_like(long).repeat(2, 1)
    mask[1, : LONG - SHORT] = 0
    both = torch.cat([long, torch.cat([padding, short], dim=1)])
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            places = (mask.cumsum(-1) - 1).clamp(min=0)  # as `generate` gives them, where they are taken
            padded = _taken(model, input_ids=both, attention_mask=mask, position_ids=places)
            beside = model(**padded).logits[1, -1]
            alone = model(**_taken(model, input_ids=short, attention_mask=torch.ones_like(short))).logits[0, -1]
    except (IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    apart = _divergence(alone, beside)
    if apart <= LIMIT.get(_dtype(model), COARSE):
        return ""
    return (
        f"{type(_inner(model)).__name__} does not leave out padding on the left: "
        f"a padded prompt gets another answer (KL {apart:.2g} nats)"
    )


def lacks_chunks(loaded: LoadedModel, tokens: Sequence[int]) -> str:
    """Why a prompt cannot be processed in pieces; empty where it can."""
    import torch

    model = loaded.model
    prompt = torch.tensor([_cycled(tokens, LONG)], device=model.device)
    arguments = {"max_new_tokens": 1, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    arguments |= {"pad_token_id": padding_of(loaded), "attention_mask": torch.ones_like(prompt)}
    try:
        with torch.compiler.set_stance("force_eager"):
            whole, pieces = (
                model.generate(prompt, prefill_chunk_size=size, **arguments).logits[0][0] for size in (None, PIECE)
            )
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    apart = _divergence(whole, pieces)
    if apart <= LIMIT.get(_dtype(model), COARSE):
        return ""
    return (
        f"{type(_inner(model)).__name__} does not go on with its state in a second piece of a prompt "
        f"(KL {apart:.2g} nats after pieces of {PIECE} tokens)"
    )


def _inner(model: Any) -> Any:
    """The model below an adapter that wraps it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _has_cache(kind: Any) -> bool:
    """Whether `generate` hands it a cache of its own that can be continued."""
    default = getattr(kind, "_supports_default_dynamic_cache", None)
    # The library asks for the name of the class as well: these are handed their state under another name.
    return (default is None or bool(default())) and "mamba" not in kind.__name__.lower()


def _taken(model: Any, **given: Any) -> dict[str, Any]:
    parameters = inspect.signature(type(_inner(model)).forward).parameters
    any_name = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values())
    given |= {"use_cache": False, "return_dict": True}
    loose = given.keys() - {"position_ids"} if any_name else set()  # a name that is not its own may go anywhere
    return {name: value for name, value in given.items() if name in parameters or name in loose}


def _cycled(tokens: Sequence[int], count: int) -> list[int]:
    return [tokens[place % len(tokens)] for place in range(count)]


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")


def _divergence(base: Any, changed: Any) -> float:
    """KL(base || changed) of two vectors of logits, in nats."""
    base, changed = base.double().log_softmax(-1), changed.double().log_softmax(-1)
    return float((base.exp() * (base - changed)).sum())
