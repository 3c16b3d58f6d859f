"""From a check, which gives a verdict, to an assertion, which keeps a record and fails the test."""

from __future__ import annotations

import functools
import inspect
import time
import warnings
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.context import Context
from pytest_llmopt.core.errors import UnsoundReferenceError, VerdictError
from pytest_llmopt.core.verdict import Status, Verdict
from pytest_llmopt.reporting.failure import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_llmopt.core.engine import Engine
    from pytest_llmopt.runtime.side import Stopwatch


def assertion(name: str, check: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """An assertion with the signature of a check; `seed` defaults to the session's."""
    check = checked(check)
    takes_seed = "seed" in inspect.signature(check).parameters

    @functools.wraps(check)
    def assert_check(candidate: Any = None, reference: Engine | None = None, *args: Any, **options: Any) -> Verdict:
        __tracebackhide__ = True
        context: Context = getattr(candidate, "context", Context())
        # The two sides of a test share one stopwatch, unless somebody built them by hand.
        found: list[Stopwatch | None] = [getattr(side, "stopwatch", None) for side in (candidate, reference)]
        watches = {id(watch): watch for watch in found if watch is not None}
        if takes_seed:
            options.setdefault("seed", context.seed)
        started, engine_before = time.perf_counter(), _seconds(watches)
        try:
            with context.guarded():
                verdict = check(candidate, reference, *args, **options)
                seconds, engine_seconds = time.perf_counter() - started, _seconds(watches) - engine_before
        except UnsoundReferenceError as error:
            # No verdict stands that was given against it; and it is not the candidate that failed.
            context.refuse(name, str(error), time.perf_counter() - started, _seconds(watches) - engine_before)
            raise
        context.record(verdict, seconds, engine_seconds)
        # A check that needs no reference may be called without one.
        compared = candidate.variant.unoptimized() if reference is None else reference.variant
        tolerated = Status.INCONCLUSIVE if context.warn_if_inconclusive else Status.PASS
        if verdict.status not in {Status.PASS, tolerated}:
            raise VerdictError(explain(verdict, candidate.variant, compared))
        if verdict.status is Status.INCONCLUSIVE:
            warnings.warn(explain(verdict, candidate.variant, compared), stacklevel=2)
        return verdict

    assert_check.__name__ = f"assert_{name}"
    return assert_check


def _seconds(watches: Mapping[int, Stopwatch]) -> float:
    return sum(watch.seconds for watch in watches.values())
