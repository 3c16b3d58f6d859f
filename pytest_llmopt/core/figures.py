"""What is told of a side beside the verdicts: numbers and words that nothing is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

Figures: TypeAlias = Mapping[str, float | str]
"""By name and unit: `bits`, `group`, `load_s`, `load_peak_bytes`, `quantize_s`. What is not known is not there."""


@runtime_checkable
class HasFigures(Protocol):
    """An optimization that says in figures what its options amount to."""

    @property
    def figures(self) -> Figures:
        """By name, such as `bits` and `group`, for the table of methods."""
        ...
