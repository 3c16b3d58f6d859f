"""Optimizations as plain JSON, and back: by the name they are registered under, or from where they were defined."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import sys
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import OptionError, UnknownNameError
from pytest_llmopt.core.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

TUPLE, SET, NUMBER = "tuple", "set", "number"


def written(value: object, what: str) -> Any:
    """A value of an option as JSON has it: tuples, sets and numbers that JSON lacks are marked.

    Raises:
        OptionError: it cannot be written, such as a function; names the option.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {NUMBER: str(value)}
    if isinstance(value, (tuple, list)):
        return {TUPLE: [written(item, what) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {SET: [written(item, what) for item in sorted(value, key=repr)]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"map": {key: written(item, what) for key, item in value.items()}}
    msg = f"{what}={value!r} cannot be written down, so this variant cannot run in another process: give plain data"
    raise OptionError(msg)


def read(value: Any) -> Any:
    """The value that `written` wrote."""
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark == TUPLE:
        return tuple(read(item) for item in content)
    if mark == SET:
        return frozenset(read(item) for item in content)
    return float(content) if mark == NUMBER else {key: read(item) for key, item in content.items()}


def home_of(kind: type) -> dict[str, str]:
    """Where a class was defined."""
    return {"module": kind.__module__, "class": kind.__qualname__, "file": _file_of(kind)}


def _file_of(kind: type) -> str:
    """By its own functions: the module of its name may be another by now, as a `conftest` replaces the one before."""
    for name, member in vars(kind).items():
        code = getattr(getattr(member, "__func__", member), "__code__", None)
        # What a dataclass was given has no file, and what a decorator made is of the decorator's.
        if not isinstance(code, CodeType) or code.co_filename.startswith("<"):
            continue
        if code.co_qualname == f"{kind.__qualname__}.{name}":
            return code.co_filename
    return str(getattr(sys.modules.get(kind.__module__), "__file__", None) or "")


def kind_at(name: str, home: Mapping[str, str]) -> Any:
    """The class of an optimization: the registered one where that is the one, else from where it was defined.

    Raises:
        OptionError: it is not there any more, or was defined inside a function.
    """
    try:
        known = Registry("optimizations", "optimization").load(name)
    except UnknownNameError:
        known = None
    if known is not None and home_of(known)["class"] == home["class"] and known.__module__ == home["module"]:
        return known
    try:
        found: Any = _module_at(home)
        for part in home["class"].split("."):
            found = getattr(found, part)
    except (AttributeError, ImportError, OSError) as error:
        msg = (
            f"{name} is {home['class']} of {home['module']} ({home['file'] or 'no file'}), and cannot be found from "
            f"another process: {type(error).__name__}: {error}. Define it at the top of a file"
        )
        raise OptionError(msg) from error
    return found


def _module_at(home: Mapping[str, str]) -> ModuleType:
    """The module of a file, whatever else has its name: every project has several that are called `conftest`."""
    name, file = home["module"], home["file"]
    other = f"{name}_{hashlib.sha256(file.encode()).hexdigest()[:8]}"
    for known in (name, other):
        module = sys.modules.get(known)
        if module is not None and file in {"", vars(module).get("__file__")}:
            return module
    if "." in name or not file:
        try:  # of a package, which another interpreter may have in another place
            return importlib.import_module(name)
        except ModuleNotFoundError:
            if not file:
                raise
    folder = str(Path(file).parent)
    if folder not in sys.path:  # what lies beside it is imported by it
        sys.path.append(folder)
    key = other if name in sys.modules else name
    spec = importlib.util.spec_from_file_location(key, file)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(name)
    module = sys.modules[key] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
