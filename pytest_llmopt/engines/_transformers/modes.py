"""Modules that were left in training mode, where that makes a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKENS = 16
NAMED = 3
"""Names in a message."""


def refuse_training(model: Any) -> None:
    """Accept a model without dropout that is on, or anything else that only training does.

    A module that somebody put into the model is in training mode as PyTorch makes it; that matters where its outputs
    would be others in evaluation mode, which is tried with all of them at once.

    Raises:
        ModelError: naming the modules.
    """
    training = [(name, module) for name, module in model.named_modules() if module.training]
    if not training:
        return
    random = [name for name, module in training if _drops(module)]
    if random or _differs(model, [module for _, module in training]):
        names = random or [name or "the model itself" for name, _ in training]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        msg = (
            f"{len(names)} modules are in training mode, and it changes what they compute: "
            f"{', '.join(names[:NAMED])}{more}; call model.eval() at the end of the step that puts them in"
        )
        raise ModelError(msg)


def _drops(module: Any) -> bool:
    """Whether it is a layer of PyTorch that drops values, however little."""
    from torch.nn.modules.dropout import _DropoutNd

    return isinstance(module, _DropoutNd) and module.p > 0


def _differs(model: Any, training: Sequence[Any]) -> bool:
    """Whether a text gets other logits, at the same state of the generators, once these modules are not in training.

    Not where it gets other logits anyway: what a call leaves behind is for other checks to find.
    """
    import torch

    size = int(model.config.get_text_config().vocab_size)
    text = torch.arange(TOKENS, device=model.device)[None] * 11 % size

    def logits() -> Any:
        torch.manual_seed(0)
        return model(input_ids=text, use_cache=False).logits

    # Forked, so that nothing else draws other numbers; eager, so that no graph is made of it.
    with torch.random.fork_rng(), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        trained = logits()
        try:
            for module in training:
                module.training = False
            evaluated = logits()
        finally:
            for module in training:
                module.training = True
        again = logits()
    return torch.equal(trained, again) and not torch.equal(trained, evaluated)
