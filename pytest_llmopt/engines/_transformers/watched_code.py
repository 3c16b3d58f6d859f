"""The functions that a model runs, where they are looked up: classes, modules and registries that all models share.

A library may add what it likes and replace what this model never runs. What is watched is every place from which the
model got a function that it ran, and, of the files that define the model's own classes, every function.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.watching import Change
from pytest_llmopt.engines._transformers.trace import Trace, functions_of, is_a, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBRARIES = ("torch", "transformers")
"""Whose functions are watched where the model runs them; those of Python itself and of arithmetic are not."""
TORCH = "torch."
FUNCTIONAL = "torch.nn.functional"
"""Counts whole: what a model does not run, its noise floor may, which is measured with other kernels."""
NAMESPACES = ("torch", FUNCTIONAL, "torch.special", "torch.linalg", "torch._C._nn")
"""Modules whose built-in functions are looked up by those of other modules."""
CALLED = ("forward", "__call__", "_call_impl", "_wrapped_call_impl", "__getattr__", "__getattribute__")
"""Of a module's class, whether they ran or not."""
NUMERIC = ("forward", "__call__", "_call_impl", "_wrapped_call_impl")
"""Never taken for plumbing."""
PLUMBING = (
    "transformers.modeling_utils",
    "transformers.generation.",
    "transformers.configuration_utils",
    "transformers.tokenization",
    "transformers.utils.",
)
"""Where classes of Transformers prepare, look up and convert, and make no numbers."""
SHARED_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks")
"""Of every module of torch."""
REGISTRIES = ("_global_mapping", "_local_mapping")
"""Where those of Transformers keep their functions."""
ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
OPERATORS = (
    *(f"__{prefix}{name}__" for name in ARITHMETIC for prefix in ("", "r", "i")),
    *(f"__{name}__" for name in ("neg", "getitem", "setitem", "eq", "ne", "lt", "le", "gt", "torch_function")),
)
"""Of a tensor; calls of them cannot be seen."""


class _Missing:
    """There was nothing under that name."""


@dataclass(frozen=True)
class Slot:
    """A name under which a function is looked up, and what was there."""

    owner: Any
    """A class, a module or a dictionary."""
    name: str
    value: Any
    where: str

    def now(self) -> Any:
        """What is there now."""
        return _namespace(self.owner).get(self.name, _Missing)

    def change(self, traced: Trace) -> Change | None:
        """What is there now, if it is another."""
        now = self.now()
        if now is self.value:
            return None
        what = f"{self.where} is {'no longer there' if now is _Missing else f'now {told(now)}'}"
        return Change(what, self._undo, harmless=self.hands_on(now, traced))

    def hands_on(self, value: Any, traced: Trace) -> bool:
        """Whether a function in this place only adds to what was there, as libraries do to support other releases."""
        home = getattr(self.owner, "__module__", None) if is_a(self.owner, type) else None
        if home is None or self.name in NUMERIC:
            return False
        # Torch's compiler wraps the constructor of every module when it is first used.
        by_torch = home.startswith(TORCH) and str(getattr(value, "__module__", "")).startswith(TORCH)
        return (home.startswith(PLUMBING) or by_torch) and traced.hands_on(value, self.name)

    def _undo(self) -> None:
        if isinstance(self.owner, dict):
            if self.value is _Missing:
                self.owner.pop(self.name, None)
            else:
                self.owner[self.name] = self.value
        elif self.value is _Missing:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.value)


@dataclass(frozen=True)
class WatchedCode:
    """Every place from which a model gets the functions that it runs."""

    slots: tuple[Slot, ...]
    own: Mapping[type, frozenset[str]]
    """The names of the model's own classes."""
    instance_names: frozenset[str]
    """Names that its modules keep on themselves."""
    hooks: Mapping[str, Mapping[int, Any]]

    @classmethod
    def of(cls, model: Any, traced: Trace) -> WatchedCode:
        """Where a model got what ran."""
        kinds = {type(module) for module in model.modules()}
        own_files = {base.__module__ for kind in kinds for base in kind.__mro__ if _own(base.__module__, model)}
        slots = {(id(slot.owner), slot.name): slot for slot in _slots(kinds, own_files, traced)}
        own = {base for kind in kinds for base in kind.__mro__ if base.__module__ in own_files}
        names = {name for module in model.modules() for name in _instance_names(module)}
        hooks = {name: dict(getattr(sys.modules["torch.nn.modules.module"], name)) for name in SHARED_HOOKS}
        return cls(tuple(slots.values()), {base: frozenset(vars(base)) for base in own}, frozenset(names), hooks)

    def changes(self, traced: Trace) -> list[Change]:
        """What is otherwise now; `traced` is what ran now."""
        found = [slot.change(traced) for slot in self.slots]
        return [*(change for change in found if change is not None), *self._added(), *self._hooked()]

    def handing_on(self, traced: Trace) -> set[CodeType]:
        """The code of functions that are now in some of these places and only add to what was, or should be, there."""
        found = ((slot, slot.now()) for slot in self.slots)
        return {functions_of(now)[0].__code__ for slot, now in found if slot.hands_on(now, traced)}

    def methods(self) -> Iterator[tuple[str, Any]]:
        """The functions of the model's own classes, with their names."""
        for slot in self.slots:
            if is_a(slot.owner, type) and slot.owner in self.own:
                yield slot.where, slot.value

    def _added(self) -> Iterator[Change]:
        """What is new on one of the model's own classes and comes before what was found until now."""
        watched = {(id(slot.owner), slot.name) for slot in self.slots}
        for base, names in self.own.items():
            for name in sorted(set(vars(base)) - names):
                inherited = any(name in vars(other) for other in base.__mro__[1:] if other is not object)
                if (id(base), name) not in watched and (inherited or name in self.instance_names):
                    value = vars(base)[name]
                    yield Change(f"{base.__qualname__}.{name} is now {told(value)}", _removing(base, name))

    def _hooked(self) -> Iterator[Change]:
        for name, given in self.hooks.items():
            hooks = getattr(sys.modules["torch.nn.modules.module"], name)
            for key in [key for key in hooks if hooks[key] is not given.get(key)]:
                what = f"every module runs a hook, {told(hooks[key])}"
                yield Change(what, _popping(hooks, key))


def _removing(owner: Any, name: str) -> Callable[[], None]:
    return lambda: delattr(owner, name)


def _popping(hooks: dict[int, Any], key: int) -> Callable[[], object]:
    return lambda: hooks.pop(key, None)


def _own(module: str, model: Any) -> bool:
    """Whether a module defines a model's own classes, and not those that all models share."""
    if module == type(model).__module__:
        return True
    return module.startswith("transformers.models.") or module.partition(".")[0] not in {
        *LIBRARIES,
        "builtins",
        "typing",
    }


def _slots(kinds: set[type], own_files: set[str], traced: Trace) -> Iterator[Slot]:
    import torch

    seen = {name for name in traced.codes.values() if name.partition(".")[0] in LIBRARIES}
    for name in sorted({*seen, *NAMESPACES, *own_files}):
        module = sys.modules.get(name)
        if module is not None:
            yield from _of_module(module, traced, own=name in {*own_files, FUNCTIONAL})
    receivers = {kind for kind in traced.receivers if kind.__module__.partition(".")[0] in LIBRARIES}
    for kind in kinds | receivers:
        yield from _of_class(kind, own_files, traced, CALLED if kind in kinds else ())
    for kind in (torch.Tensor, torch.nn.Parameter):
        yield from _of_class(kind, own_files, traced, (*OPERATORS, *sorted(traced.tensor_methods)))


def _of_module(module: ModuleType, traced: Trace, *, own: bool) -> Iterator[Slot]:
    for name, value in list(vars(module).items()):
        if name.startswith("__"):
            continue
        if traced.runs(value) or (own and _is_code(value, module.__name__)):
            yield Slot(module, name, value, f"{module.__name__}.{name}")
        elif is_a(value, Mapping):
            yield from _of_registry(name, value, traced)


def _of_registry(label: str, registry: Mapping[Any, Any], traced: Trace) -> Iterator[Slot]:
    """The functions of a registry that ran, in each of the dictionaries that it looks into."""
    kept = [getattr(registry, name) for name in REGISTRIES if isinstance(getattr(registry, name, None), dict)]
    for key, value in list(registry.items()) if kept or type(registry) is dict else ():
        if callable(value) and traced.runs(value):
            for owner in kept or [registry]:
                yield Slot(owner, key, owner.get(key, _Missing), f"{label}[{key!r}]")


def _of_class(kind: type, own_files: set[str], traced: Trace, called: tuple[str, ...]) -> Iterator[Slot]:
    """Functions of a class and its bases, and the places before them where another would be found first."""
    order = [base for base in kind.__mro__ if base is not object]
    for place, base in enumerate(order):
        own = base.__module__ in own_files
        for name, value in list(vars(base).items()):
            if name in called or traced.runs(value) or (own and _is_code(value, base.__module__)):
                yield Slot(base, name, value, f"{base.__qualname__}.{name}")
                yield from (
                    Slot(before, name, _Missing, f"{before.__qualname__}.{name}")
                    for before in order[:place]
                    if name not in vars(before)
                )
    for name in called:
        if name not in vars(kind):
            yield Slot(kind, name, _Missing, f"{kind.__qualname__}.{name}")


def _is_code(value: Any, module: str) -> bool:
    """Whether it is a function or class that a module defines, or a module or built-in function that it uses.

    What others have added to it is theirs to change, as long as it does not run.
    """
    made = value if is_a(value, type) else next(iter(functions_of(value)), None)
    if made is not None:
        return getattr(made, "__module__", None) == module
    return is_a(value, (BuiltinFunctionType, ModuleType))


def _instance_names(module: Any) -> Iterator[str]:
    for name, value in vars(module).items():
        yield name
        if name in {"_parameters", "_buffers", "_modules"}:
            yield from value


def _namespace(owner: Any) -> Mapping[str, Any]:
    return owner if isinstance(owner, dict) else vars(owner)
