"""The default gate: which checks a candidate gets, with which settings, by what its optimizations promise.

The one table that `llmopt.assert_gate`, the shipped suites and the mutation benchmark run, so that what is proven is
what ships.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.optimization import Promise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.variant import Variant


@dataclass(frozen=True)
class Step:
    """One check with its settings."""

    check: str
    """The name that it is registered under."""
    settings: Mapping[str, Any] = field(default_factory=dict)


FILTERED_TOKENS = 448
"""Of the settings with a filter: a wrong filter shows in its support, long before it shows in the mass."""

DRAWN = (
    Step("seeded"),
    Step("lossless", {"temperature": 0.7}),
    # Few tokens and a flat law: much of the mass is at the filter's edge, where they tie in 16 bits.
    Step("lossless", {"temperature": 1.5, "top_k": 3, "max_tokens": FILTERED_TOKENS}),
    # Filters that cut by mass are tried away from temperature 1: it has to be applied before them.
    Step("lossless", {"temperature": 0.7, "top_p": 0.9, "max_tokens": FILTERED_TOKENS}),
    Step("lossless", {"temperature": 1.3, "min_p": 0.05, "max_tokens": FILTERED_TOKENS}),
)

DEFAULT: Mapping[Promise, tuple[Step, ...]] = MappingProxyType(
    {
        Promise.EQUIVALENT: (Step("equivalent"), Step("optimized"), Step("invariant")),
        Promise.LOSSLESS: (Step("equivalent"), Step("optimized"), Step("invariant"), *DRAWN),
        # What packed weights hold is seen without decoding a token, so that comes first.
        Promise.ACCURATE: (Step("optimized"), Step("accurate"), Step("invariant")),
    }
)
"""By promise, in the order of what they find in a second."""

PLAIN = (Step("equivalent"), Step("invariant"))
"""Of a candidate without optimizations: another engine, dtype or checkpoint."""


def default_gate(variant: Variant) -> tuple[Step, ...]:
    """The checks of a candidate: those of the weakest promise that one of its optimizations makes."""
    for promise in (Promise.ACCURATE, Promise.LOSSLESS, Promise.EQUIVALENT):
        if promise in variant.promises:
            return DEFAULT[promise]
    return PLAIN
