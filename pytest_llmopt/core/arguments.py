"""What a check is called with: all that it needs, nothing unknown, each value as its annotation declares it."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.text import shown
from pytest_llmopt.core.values import fit, hints, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Given = ParamSpec("Given")
Result = TypeVar("Result")

SIDES = ("candidate", "reference")
NEEDED = {
    "candidate": "the optimized side: the fixture `candidate`",
    "reference": "the side that it is compared with: the fixture `reference`",
    "prompts": "the fixture `prompts`, or a list of texts",
    "benchmark": "the fixture `benchmark` of pytest-benchmark",
}
"""What to give for a parameter that has no default."""


def checked(check: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same check, which refuses what its signature and annotations do not allow before it does anything.

    An assertion passes through it as well as a direct call; a check of another package needs no code of its own.
    """
    signature = inspect.signature(check)
    called = f"assert_{check.__name__.removeprefix('assert_')}"

    @functools.cache
    def kinds() -> dict[str, Any]:
        return hints(getattr(inspect.unwrap(check), "__annotations__", {}), check.__module__)

    @functools.wraps(check)
    def call(*args: Given.args, **options: Given.kwargs) -> Result:
        __tracebackhide__ = True
        bound = _bound(called, signature, args, options)
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if name in SIDES:
                _refuse_no_side(called, name, value, optional=_may_be_none(parameter))
            elif parameter.kind is parameter.KEYWORD_ONLY and not _is_default(value, parameter):
                bound.arguments[name] = fit(f"{called}: {name}", value, kinds()[name]) if name in kinds() else value
        return check(*bound.args, **bound.kwargs)

    return call


def _bound(
    called: str, signature: inspect.Signature, args: tuple[Any, ...], options: Mapping[str, Any]
) -> inspect.BoundArguments:
    """The arguments by parameter.

    Raises:
        OptionError: one is unknown, missing, twice there or too many.
    """
    parameters = signature.parameters
    known = [name for name, item in parameters.items() if item.kind is item.KEYWORD_ONLY]
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    for name in () if takes_any else options:
        if name not in parameters:
            msg = f"{called} has no argument {shown(name)}; {nearest(name, known)}it takes {', '.join(known)}"
            raise OptionError(msg)
    try:
        return signature.bind(*args, **options)
    except TypeError as error:
        positional = [name for name, item in parameters.items() if item.kind is item.POSITIONAL_OR_KEYWORD]
        missing = [name for name in positional[len(args) :] if name not in options]
        missing = [name for name in missing if parameters[name].default is inspect.Parameter.empty]
        if missing:
            msg = f"{called} lacks {missing[0]}; give {NEEDED.get(missing[0], 'it')}"
        elif len(args) > len(positional):
            msg = (
                f"{called} takes {', '.join(positional)} in this order and all else by name: "
                f"give {shown(args[len(positional)])} as one of {', '.join(f'{name}=' for name in known)}"
            )
        else:
            msg = f"{called}: {error}"
        raise OptionError(msg) from None


def _refuse_no_side(called: str, name: str, value: object, *, optional: bool) -> None:
    if hasattr(value, "tokenizer") and hasattr(value, "ask"):
        return
    if value is None and optional:
        return
    msg = f"{called}: {name}={shown(value)} is no side of a comparison; give {NEEDED[name]}"
    raise OptionError(msg)


def _may_be_none(parameter: inspect.Parameter) -> bool:
    return "None" in str(parameter.annotation)


def _is_default(value: object, parameter: inspect.Parameter) -> bool:
    return value is parameter.default
