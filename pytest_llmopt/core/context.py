"""What the session tells a check: the seed, the budget, other variants, and where its verdict goes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pytest_llmopt.core.budget import Budget
    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.core.verdict import Verdict


@dataclass(frozen=True)
class Context:
    """What a check is told beside its arguments, and where its verdict goes."""

    seed: int = 0
    budget: Budget | None = None
    warn_if_inconclusive: bool = False
    """An INCONCLUSIVE verdict warns instead of failing the test."""
    open: Callable[[Variant], Engine] | None = None
    """Another variant of the model under test, loaded once and timed, such as a draft."""
    cache: Path = Path(".llmopt/cache")
    """Where results that are expensive to get again are kept."""
    record: Callable[[Verdict, float, float], None] = lambda _verdict, _seconds, _engine_seconds: None
    """Keeps the verdict of a check, with its wall seconds and its engine seconds."""
    reopen: Callable[[Variant], Engine] | None = None
    """A variant loaded anew, whatever is loaded already; who calls it closes the engine."""
    guarded: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around a check: raises UnsoundReferenceError where the reference is not what it was when it ends."""
    refuse: Callable[[str, Exception, float, float], None] = lambda _check, _error, _seconds, _engine_seconds: None
    """Keeps that a check has no verdict, and the exception for it, with its wall seconds and its engine seconds."""
    raised: Callable[[Exception], None] = lambda _error: None
    """Told of every exception whose record is kept already."""
