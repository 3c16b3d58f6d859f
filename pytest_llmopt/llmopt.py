"""The namespace that tests use: a marker for every optimization, an assertion for every check.

`llmopt.quantized("awq")`, `llmopt.static_cache(compile=True)` and the like are pytest marks, named `llmopt_quantized`
and so on, so that `-m llmopt_gpu` selects. `llmopt.assert_<check>(candidate, reference, ...)` runs the check of that
name, and `llmopt.assert_gate` all checks that belong to what the candidate promises. Both come from the registries: an
optimization or check in a new file is here without an edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmopt.assertions import assertion
from pytest_llmopt.core.errors import OptionError, UnknownNameError
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.gate import assert_gate as assert_gate  # noqa: PLC0414 - a name of this namespace
from pytest_llmopt.markers import marker_names
from pytest_llmopt.names import MARKERS, PREFIX, VARIANT, own_markers

if TYPE_CHECKING:
    from collections.abc import Iterable

ASSERT = "assert_"
EXAMPLE = 'variants({"nf4": llmopt.quantized("bitsandbytes")})'


def variants(
    by_id: Mapping[str, pytest.MarkDecorator | Iterable[pytest.MarkDecorator]],
) -> pytest.MarkDecorator:
    """A mark that runs one test over several variants, each given as one marker or a list of them.

    ```python
    @llmopt.variants({"nf4": llmopt.quantized("bitsandbytes"), "int8": llmopt.quantized("bitsandbytes", bits=8)})
    def test_accuracy(candidate, reference, prompts): ...
    ```

    Raises:
        OptionError: there are none, or one is not an id with its markers.
    """
    __tracebackhide__ = True
    if not isinstance(by_id, Mapping) or not by_id:
        got = "an empty mapping" if by_id == {} else repr(by_id)
        msg = f"variants takes a mapping from ids to markers, such as {EXAMPLE}; got {got}"
        raise OptionError(msg)
    parameters = [pytest.param(name, id=name, marks=_marks(name, given)) for name, given in by_id.items()]
    return pytest.mark.parametrize(VARIANT, parameters, indirect=True)


def _marks(name: object, given: object) -> list[pytest.MarkDecorator]:
    """The markers of one variant."""
    __tracebackhide__ = True
    if not isinstance(name, str) or not name.strip():
        msg = f"variants: {name!r} is not an id; write a text, as in {EXAMPLE}"
        raise OptionError(msg)
    marks = []
    for mark in given if isinstance(given, (list, tuple)) else [given]:
        if not isinstance(mark, pytest.MarkDecorator):
            msg = f"variants: {name!r} is given {mark!r}; write a marker or a list of markers, as in {EXAMPLE}"
            raise OptionError(msg)
        marks.append(mark)
    return marks


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        if name.startswith(ASSERT):
            check = name.removeprefix(ASSERT)
            return assertion(check, Registry("checks", "check").load(check))
        return _marker(name)
    except UnknownNameError as error:
        raise AttributeError(str(error)) from None


def _marker(name: str) -> Any:
    if name in {*MARKERS, *own_markers()}:
        return getattr(pytest.mark, f"{PREFIX}{name}")
    # Another package's optimization: pytest knows the marker that takes its full name.
    names = marker_names(Registry("optimizations", "optimization"))
    if name in names:
        return pytest.mark.llmopt_optimization(names[name])
    kind = "marker"
    raise UnknownNameError(kind, name, {*MARKERS, *names, "variants"})
