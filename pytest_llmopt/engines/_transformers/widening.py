"""A 16-bit model that computes in float32, one module at a time, without a second copy of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import RequirementMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "float32"
MARK = "llmopt_computes_in"
"""Set on a model as long as it computes in another dtype than its weights have: a cache that is kept from call to call
belongs to one of them."""


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """Inside it, every module that holds 16-bit weights has them in float32 just while it runs.

    Activations stay in float32 between modules, so that the result is that of the same weights in float32, and only one
    module is held twice at a time. Compiled graphs run eagerly. Does nothing to a model of 32 bits.

    Raises:
        RequirementMissingError: weights are packed, or, while it runs, the architecture casts activations to 16 bits.
    """
    import torch

    narrow = frozenset({torch.bfloat16, torch.float16})
    _refuse_packed(model)
    owners = [(path, module) for path, module in model.named_modules() if _own(module, narrow)]
    if not owners:
        yield
        return
    changes = [_Widened(path, module, narrow) for path, module in owners]
    handles: list[Any] = []
    before = model.__dict__.get(MARK)
    setattr(model, MARK, NAME)
    try:
        for change in changes:
            handles += change.attached()
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for handle in handles:
            handle.remove()
        for change in changes:
            change.restore_all()
        if before is None:
            delattr(model, MARK)


@dataclass(eq=False)
class _Widened:
    """A module whose own weights are float32 while it runs."""

    path: str
    module: Any
    narrow: frozenset[Any]
    kept: list[list[tuple[Any, Any]]] = field(default_factory=list)
    """Per call that is under way, each tensor with the data that it had."""

    def attached(self) -> list[Any]:
        """Watch the calls of the module; gives what ends that."""
        return [
            self.module.register_forward_pre_hook(self._widen),
            # Also where the module raises: its weights are what they were whatever happens.
            self.module.register_forward_hook(self._restore, always_call=True),
        ]

    def restore_all(self) -> None:
        """Put back what a call that was never ended left behind."""
        while self.kept:
            self._restore()

    def _widen(self, _module: Any, args: tuple[Any, ...]) -> None:
        # Where an architecture casts what flows between modules to 16 bits, the result is not that of float32.
        if any(getattr(item, "dtype", None) in self.narrow for item in args):
            msg = f"{type(self.module).__name__} {self.path} is given 16-bit activations: the architecture casts them"
            raise RequirementMissingError(NAME, msg)
        held = [(tensor, tensor.data) for tensor in _own(self.module, self.narrow)]
        self.kept.append(held)
        for tensor, data in held:
            tensor.data = data.float()

    def _restore(self, *_: Any) -> None:
        if self.kept:
            for tensor, data in self.kept.pop():
                tensor.data = data


def _own(module: Any, narrow: frozenset[Any]) -> list[Any]:
    """The parameters and buffers that a module itself holds in 16 bits."""
    held = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return [tensor for tensor in held if tensor.dtype in narrow]


def _refuse_packed(model: Any) -> None:
    import torch

    plain = {torch.nn.Parameter, torch.Tensor}
    held = (*model.named_parameters(), *model.named_buffers())
    for path, tensor in held:
        floating = tensor.is_floating_point() and tensor.element_size() > 1
        weight = isinstance(tensor, torch.nn.Parameter)
        if (weight and not floating) or type(tensor) not in plain or tensor.is_meta:
            msg = f"needs plain weights, and {path} is {type(tensor).__name__} of {tensor.dtype}"
            raise RequirementMissingError(NAME, msg)
