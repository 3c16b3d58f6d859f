"""What one test compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmopt.core.budget import Budget
    from pytest_llmopt.core.requirements import Requirement
    from pytest_llmopt.core.variant import Variant


@dataclass(frozen=True)
class Comparison:
    """Both sides, what they need, and what the candidate may cost."""

    candidate: Variant
    reference: Variant
    requirements: tuple[Requirement, ...] = ()
    budget: Budget | None = None
