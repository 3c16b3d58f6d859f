"""Which code runs while a model is asked something."""

from __future__ import annotations

import functools
import gc
import os
import sys
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CellType, CodeType, FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmopt.core.watching import Ask

PLAIN = ("torch", "transformers", "numpy", "accelerate", "huggingface_hub", "safetensors", "tokenizers")
"""Packages whose code a model of Transformers without optimizations may run."""
LruCached = type(functools.cache(id))
WRAPPERS = 8
"""How deep functions are wrapped in each other, at most."""


@dataclass
class Trace:
    """The Python functions and the built-in ones that ran, and where."""

    codes: dict[CodeType, str] = field(default_factory=dict)
    """With the name of the module whose globals each one used."""
    builtins: dict[int, Any] = field(default_factory=dict)
    """By identity; functions of modules only, since those of objects are made anew for each call."""
    tensor_methods: set[str] = field(default_factory=set)
    """Names of built-in methods that were called on tensors."""
    receivers: set[type] = field(default_factory=set)
    """Classes of the objects whose methods ran."""

    @classmethod
    def of(cls, ask: Ask) -> Trace:
        """What runs while something is asked, eagerly: a compiled graph would not run what it was made of."""
        import torch

        traced = cls()
        with torch.compiler.set_stance("force_eager"), _without_garbage_collection(), traced._recording():
            ask()
        return traced

    def runs(self, value: Any) -> bool:
        """Whether a value is a function that ran, whatever it is wrapped in, or a class with a method that did."""
        if is_a(value, type):
            return any(self.runs(item) for item in vars(value).values() if not is_a(item, type))
        codes = [function.__code__ for function in functions_of(value)]
        return all(code in self.codes for code in codes) if codes else id(value) in self.builtins

    def hands_on(self, value: Any, name: str) -> bool:
        """Whether a function ran and so did one of the same name that it keeps, as a wrapper keeps what it wraps."""
        functions = functions_of(value)
        if not functions or functions[0].__code__ not in self.codes:
            return False
        kept = [inner for cell in functions[0].__closure__ or () for inner in functions_of(_content(cell))]
        return any(inner.__name__ == name and inner.__code__ in self.codes for inner in (*functions[1:], *kept))

    def foreign(self, allowed: tuple[str, ...]) -> list[CodeType]:
        """What ran of files that are in none of the folders allowed."""
        return [code for code in self.codes if not within(code.co_filename, allowed)]

    @contextmanager
    def _recording(self) -> Iterator[None]:
        import torch

        tensor, module = torch.Tensor, type(sys)

        def look(frame: FrameType, event: str, called: Any) -> None:
            if event == "call":
                if frame.f_code not in self.codes:
                    self._first_call(frame)
            elif event == "c_call":
                owner = getattr(called, "__self__", None)
                if isinstance(owner, tensor):
                    self.tensor_methods.add(called.__name__)
                elif owner is None or isinstance(owner, (module, type)):
                    self.builtins[id(called)] = called

        given = sys.getprofile()
        sys.setprofile(look)
        try:
            yield
        finally:
            sys.setprofile(given)

    def _first_call(self, frame: FrameType) -> None:
        code = frame.f_code
        self.codes[code] = frame.f_globals.get("__name__", "")
        if code.co_argcount and code.co_varnames[0] == "self":
            self.receivers.add(type(frame.f_locals.get("self")))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Finalizers of what others left behind would look as if the model ran them."""
    given = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if given:
            gc.enable()


def is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    """As `isinstance`, by the real type: what only stands for something else may import or warn when it is asked."""
    return issubclass(type(value), kind)


def functions_of(value: Any) -> list[FunctionType]:
    """The Python functions that a value is made of: itself, what it wraps, what it is bound to; empty for others."""
    found: list[FunctionType] = []
    for _ in range(WRAPPERS):
        if is_a(value, FunctionType):
            found.append(value)
        value = _inside(value)
        if value is None:
            break
    return found


def _inside(value: Any) -> Any:
    """What a function, method or descriptor is made around."""
    if is_a(value, property):
        return value.fget
    if is_a(value, (staticmethod, classmethod, MethodType)):
        return value.__func__
    if is_a(value, functools.partial):
        return value.func
    if is_a(value, (FunctionType, LruCached)):
        return value.__dict__.get("__wrapped__")
    return None


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty yet
        return None


def plain_folders(*modules: str) -> tuple[str, ...]:
    """The folders of the standard library, of `PLAIN`, of this package, and of the packages of some modules."""
    places = [sysconfig.get_path("stdlib") + os.sep, str(Path(__file__).parents[2]) + os.sep]
    for name in {name.partition(".")[0] for name in (*PLAIN, *modules)}:
        top = sys.modules.get(name)
        # A module that is no package may lie beside anything: it stands for its file only.
        file = getattr(top, "__file__", None)
        places += [folder + os.sep for folder in getattr(top, "__path__", ())] or ([file] if file else [])
    return tuple(os.path.realpath(place) + (os.sep if place.endswith(os.sep) else "") for place in places)


def within(file: str, roots: tuple[str, ...]) -> bool:
    """Whether a file of code is in one of some folders, and not in site packages below it."""
    # What has no file, as `<string>` and `<frozen os>`, was made by what has one.
    if file.startswith("<"):
        return True
    path = os.path.realpath(file)
    found = [root for root in roots if path.startswith(root)]
    # Site packages lie inside the folder of the standard library.
    return any("site-packages" not in path.removeprefix(root) for root in found)


def told(value: Any) -> str:
    """A function or class in words: its name and the file that it is from."""
    functions = functions_of(value)
    if functions:
        return told_code(functions[0].__code__)
    name = getattr(value, "__qualname__", None) or type(value).__name__
    module = getattr(value, "__module__", None) or ""
    file = getattr(sys.modules.get(module), "__file__", None)
    return f"{name} of {os.path.basename(file) if file else module or 'a built-in module'}"  # noqa: PTH119


def told_code(code: CodeType) -> str:
    """The name of a function and its file."""
    return f"{code.co_qualname.rpartition('<locals>.')[2]} of {os.path.basename(code.co_filename)}"  # noqa: PTH119
