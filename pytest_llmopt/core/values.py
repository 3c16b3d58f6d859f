"""Values that a person gives: of the declared type, within the declared range, and shown in few words where not.

A type is declared by an annotation, and a range is a part of it: `num_prompts: Count = 16` and
`confidence: Annotated[float, Range(0, below=1)] = 0.5` need no code of their own.
"""

from __future__ import annotations

import builtins
import collections.abc
import dataclasses
import difflib
import functools
import inspect
import math
import sys
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LARGEST = 2**31 - 1
"""Of a count: no model, cache or machine of today has room for more."""
LONGEST_TEXT = 4096
"""Characters of a name or path."""
PLAIN_TEXT = f"a text that is not empty, has at most {LONGEST_TEXT:,} characters, and no control character"
PERCENT = 100


@dataclass(frozen=True)
class Range:
    """The numbers that are allowed, ends included but for `above` and `below`."""

    at_least: float = -math.inf
    at_most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        """Whether a number is one of them; NaN never is."""
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    @property
    def words(self) -> str:
        """As a person reads it, such as " from 1 to 64"; empty where everything finite is allowed."""
        low = f" from {self.at_least}" if math.isfinite(self.at_least) else ""
        low = f" above {self.above}" if math.isfinite(self.above) else low
        if math.isfinite(self.below):
            return f"{low}{' and' if low else ''} below {self.below}"
        return low if self.at_most in {math.inf, LARGEST} else f"{low}{' to' if low else ' up to'} {self.at_most}"


@dataclass(frozen=True)
class Length:
    """How many items a list has at least, or characters a text; 0 allows an empty text."""

    at_least: int


@dataclass(frozen=True)
class Said:
    """What is allowed, where a person would say it otherwise than the type does."""

    words: str


Count: TypeAlias = Annotated[int, Range(1, LARGEST)]
"""How many, at least one."""
CountOrNone: TypeAlias = Annotated[int, Range(0, LARGEST)]
"""How many, 0 for none."""
Seed: TypeAlias = Annotated[int, Range(0, 2**32 - 1)]
"""What every library takes as a seed."""
Positive: TypeAlias = Annotated[float, Range(above=0)]
NonNegative: TypeAlias = Annotated[float, Range(0)]
Share: TypeAlias = Annotated[float, Range(0, 1)]
"""0.95 is 95 %."""
Probability: TypeAlias = Annotated[float, Range(above=0, below=1)]
"""Neither impossible nor certain."""
Names: TypeAlias = Annotated[collections.abc.Sequence[str], Length(1)]
"""At least one."""
Size: TypeAlias = Annotated[str | Annotated[float, Range(1, 2**60)], Said("a size: bytes, or a text such as '6 GiB'")]
"""Of memory."""
SEQUENCES = (tuple, list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)


class _MisfitError(Exception):
    """A value that is not of a type."""


def fit(name: str, value: object, kind: Any) -> Any:
    """A value of the declared type: itself, or a number of numpy as one of Python, or a list as a tuple.

    Args:
        name: the option, for the message.
        value: what was given.
        kind: a type, with ranges in `Annotated`; what cannot be checked is taken as it is.

    Raises:
        OptionError: it is of another type or out of range; names the option, the value and what is allowed.
    """
    try:
        return _fit(value, kind)
    except _MisfitError:
        msg = f"{name}={shown(value)} is not possible; give {words(kind)}{_hint(value, kind)}"
        raise OptionError(msg) from None


def fit_options(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values for some fields of a dataclass, each fitted to its annotation. A field's own default always fits.

    Raises:
        OptionError: one does not fit.
    """
    known = hints_of_class(kind)
    defaults = {item.name: item.default for item in dataclasses.fields(kind)}
    return {
        name: value if _same(value, defaults.get(name)) or name not in known else fit(name, value, known[name])
        for name, value in given.items()
    }


def fit_fields(instance: Any) -> None:
    """Fit every field of a frozen dataclass in place: for its `__post_init__`.

    Raises:
        OptionError: a value does not fit.
    """
    given = {item.name: getattr(instance, item.name) for item in dataclasses.fields(instance)}
    for name, value in fit_options(type(instance), given).items():
        if value is not given[name]:
            object.__setattr__(instance, name, value)


def nearest(value: object, known: Iterable[str]) -> str:
    """A question after a name that somebody may have meant: "did you mean 'bits'? ", or nothing."""
    near = difflib.get_close_matches(str(value)[:100], list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def words(kind: Any) -> str:
    """What a type allows, as a person says it."""
    base, extra = _taken_apart(kind)
    said = [item.words for item in extra if isinstance(item, Said)]
    if said:
        return said[0]
    origin = typing.get_origin(base)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(dict.fromkeys(words(member) for member in typing.get_args(base)))
    if origin is Literal:
        return " or ".join(map(repr, typing.get_args(base)))
    if origin in _ORIGINS or base in _ORIGINS:
        return f"{'a' if not extra else 'a non-empty'} list{_of(base)}"
    simple = {
        None: "None",
        type(None): "None",
        bool: "True or False",
        str: "a text",
        int: f"a whole number{_ranges(extra)}",
        float: f"a finite number{_ranges(extra)}",
    }
    return simple.get(base) or f"a {getattr(base, '__name__', base)}"


@functools.cache
def hints_of_class(kind: type) -> dict[str, Any]:
    """The types of the fields of a class by name, inherited ones too."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        found |= hints(inspect.get_annotations(base), base.__module__)
    return found


def hints(annotations: Mapping[str, Any], module: str) -> dict[str, Any]:
    """Annotations as types. What is imported for type checkers only and no standard type is `Any`."""
    own = vars(sys.modules[module]) if module in sys.modules else {}
    found: dict[str, Any] = {}
    for name, annotation in annotations.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= typing.get_type_hints(holder, {**own}, _Fallback(own), include_extras=True)
        except Exception:  # noqa: BLE001 - whatever it is, it cannot be checked
            found[name] = Any
    return found


class _Fallback(dict[str, Any]):
    """Names that a module does not have at run time."""

    def __init__(self, own: Mapping[str, Any]) -> None:
        super().__init__()
        self._own = own

    def __missing__(self, name: str) -> Any:
        if name in self._own or hasattr(builtins, name):
            raise KeyError(name)
        for place in (globals(), vars(collections.abc), vars(typing)):
            if name in place:
                return place[name]
        return Any


_ORIGINS = frozenset(SEQUENCES)


def _taken_apart(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type and what is annotated."""
    if typing.get_origin(kind) is Annotated:
        return kind.__origin__, kind.__metadata__
    return kind, ()


def _fit(value: Any, kind: Any) -> Any:
    base, extra = _taken_apart(kind)
    origin = typing.get_origin(base)
    if isinstance(value, np.generic):
        value = value.item()
    if origin in {typing.Union, types.UnionType}:
        return _first_of(value, typing.get_args(base))
    if origin is Literal:
        _require(any(_same(own, value) for own in typing.get_args(base)))
        return value
    if origin in _ORIGINS or base in _ORIGINS:
        return _items(value, base, extra)
    if base in _SIMPLE:
        return _SIMPLE[base](value, extra)
    if isinstance(base, type) and origin is None and not getattr(base, "_is_protocol", False) and base is not Any:
        _require(isinstance(value, base))
    return value


def _require(fits: object) -> None:
    if not fits:
        raise _MisfitError


def _first_of(value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return _fit(value, kind)
        except _MisfitError:
            continue
    raise _MisfitError


def _items(value: Any, base: Any, extra: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    _require(isinstance(value, (list, tuple)) or (isinstance(value, collections.abc.Sequence) and not _is_text(value)))
    _require(all(len(value) >= item.at_least for item in extra if isinstance(item, Length)))
    kinds = typing.get_args(base)
    if typing.get_origin(base) is tuple and kinds[-1:] != (...,):
        _require(len(value) == len(kinds))
        return tuple(map(_fit, value, kinds))
    return tuple(_fit(item, kinds[0]) for item in value) if kinds else tuple(value)


def _none(value: Any, _extra: tuple[Any, ...]) -> None:
    _require(value is None)


def _truth(value: Any, _extra: tuple[Any, ...]) -> bool:
    _require(isinstance(value, bool))
    return bool(value)


def _whole(value: Any, extra: tuple[Any, ...]) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)
    _require(all(value in item for item in extra if isinstance(item, Range)))
    return int(value)


def _number(value: Any, extra: tuple[Any, ...]) -> float:
    _require(isinstance(value, (int, float)) and not isinstance(value, bool))
    _require(abs(value) <= sys.float_info.max and all(value in item for item in extra if isinstance(item, Range)))
    return value


def _text(value: Any, extra: tuple[Any, ...]) -> str:
    least = min((item.at_least for item in extra if isinstance(item, Length)), default=1)
    _require(isinstance(value, str) and value.isprintable() and least <= len(value.strip()) <= LONGEST_TEXT)
    return str(value)


_SIMPLE: dict[Any, Any] = {
    None: _none,
    type(None): _none,
    bool: _truth,
    int: _whole,
    float: _number,
    str: _text,
}


def _is_text(value: object) -> bool:
    return isinstance(value, (str, bytes, bytearray))


def _same(value: Any, other: Any) -> bool:
    """Whether two values are equal and of one type: 1 is not True, 4.0 is not 4."""
    return type(value) is type(other) and (value is other or (not hasattr(value, "__array__") and value == other))


def _of(base: Any) -> str:
    kinds = [kind for kind in typing.get_args(base) if kind is not ...]
    if not kinds or kinds[0] is Any:
        return ""
    if typing.get_origin(base) is tuple and typing.get_args(base)[-1:] != (...,):
        return f" of {len(kinds)}, each {words(kinds[0])}"
    inner, _ = _taken_apart(kinds[0])
    return " of texts" if inner is str else f", each of them {words(kinds[0])}"


def _ranges(extra: tuple[Any, ...]) -> str:
    return "".join(item.words for item in extra if isinstance(item, Range))


def _hint(value: object, kind: Any) -> str:
    """What is likely meant, where it is plain."""
    accepted = words(kind)
    if isinstance(value, str) and accepted.startswith("a text"):
        return f"; it is to be {PLAIN_TEXT}"
    if isinstance(value, str) and "list" in accepted and "number" not in accepted:
        return f", such as [{shown(value)}]"
    if isinstance(value, str) and "number" in accepted:
        return ", without quotes" if value.strip().lstrip("+-").replace(".", "", 1).isdigit() else ""
    if isinstance(value, int) and value > LARGEST and "whole number" in accepted:
        return f", at most {LARGEST}"
    percent = isinstance(value, (int, float)) and not isinstance(value, bool) and 1 < value <= PERCENT
    if percent and "from 0 to 1" in accepted:
        return f": {value} % is {value / PERCENT:g}"  # type: ignore[operator]
    return ""
