"""Names that pytest must know from the start: light, since every pytest run in the environment imports this."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


PREFIX = "llmopt_"
MARKERS = {
    "model": "model(*names): models under test, instead of --llmopt-model",
    "quantized": "quantized(method, **options), (checkpoint=) or (config=): quantize the candidate's weights",
    "optimization": "optimization(name, **options): apply any registered optimization, by its full name",
    "engine": "engine(name): run both sides on this engine",
    "against": "against(*optimizations, model=, dtype=, device=, engine=): what the reference is, instead of plain",
    "budget": "budget(decode_speedup=, weight_memory=, ...): limits for assert_within_budget",
    "isolated": "isolated(python=): run the candidate in a process of its own",
    "gpu": "gpu(memory=, capability=, count=): needs CUDA devices",
}
"""Markers beside those of the optimizations, with their help."""
QUANTIZATION = "quantization"
"""The family whose members share one marker, `quantized(method)`."""
SIDES = frozenset({"candidate", "reference"})
MODEL = "llmopt_model"
"""The parameter that runs a test once per model; a side asks for it."""
VARIANT = "llmopt_variant"
"""The parameter that runs a test once per variant."""
ASK = (
    "put `candidate` or `reference` into the arguments of the test or of a fixture that it uses, "
    'or write @pytest.mark.usefixtures("candidate")'
)
"""How a test asks for a side."""
REFUSED = "llmopt_refused"
"""The attribute of a report that carries why a test was refused, also from a worker of pytest-xdist."""
NO_MODEL = ""
"""In place of a model where none is named: an error of this test, if it is selected."""


@functools.cache
def own_markers() -> dict[str, str]:
    """Full names by marker name, of the optimizations in this package that have a marker of their own."""
    folder = Path(__file__).parent / "optimizations"
    return {
        file.stem: f"{file.parent.name}.{file.stem}"
        for file in folder.glob("*/[!_]*.py")
        if file.parent.name != QUANTIZATION
    }


def is_ours(item: pytest.Item) -> bool:
    """Whether a test asks for a side or carries one of our markers."""
    asks = model_of(item) is not None or MODEL in getattr(item, "fixturenames", ())
    return asks or any(mark.name.startswith(PREFIX) for mark in item.iter_markers())


def model_of(item: pytest.Item) -> str | None:
    """The model that a test runs against, if it asks for a side."""
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get(MODEL)


def nodeid_of(item: pytest.Item) -> str:
    """The name of a test, without the groups that pytest-xdist writes behind it."""
    marks = item.iter_markers("xdist_group")
    groups = {str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) for mark in marks}
    return item.nodeid.removesuffix(f"@{'_'.join(sorted(groups))}")
