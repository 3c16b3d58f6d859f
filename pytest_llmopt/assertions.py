"""From a check, which gives a verdict, to an assertion, which keeps a record and fails the test."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import time
import warnings
from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.engine import bare
from pytest_llmopt.core.errors import LlmoptWarning, OptionError, VerdictError
from pytest_llmopt.core.side import Context
from pytest_llmopt.core.verdict import Estimate, Metric, Status, Tolerance, Verdict
from pytest_llmopt.reporting.failure import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_llmopt.core.side import Side


ALONE = frozenset({"within_budget"})
"""Checks that say something of a model that is compared with itself: a budget may be absolute."""


def assertion(name: str, check: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """An assertion with the signature of a check; `seed` defaults to the session's.

    The assertion raises `VerdictError` where the verdict is not a PASS, `OptionError` where the two sides are the wrong
    ones, and whatever the check raises; a record is kept in each case.
    """
    check = checked(check)
    signature = inspect.signature(check)
    takes_seed = "seed" in signature.parameters
    needs_reference = _is_needed(signature, "reference")

    @functools.wraps(check)
    def assert_check(*args: Any, **options: Any) -> Verdict:
        __tracebackhide__ = True
        candidate, reference = _sides(signature, args, options)
        context: Context = getattr(candidate, "context", Context())
        if takes_seed:
            options.setdefault("seed", context.seed)
        started, engine_before = time.perf_counter(), context.engine_seconds()
        try:
            _refuse_other_roles(name, signature, {"candidate": candidate, "reference": reference})
            with context.guarded():
                verdict = check(*args, **options)
                if context.requires_evidence and verdict.not_judged:
                    verdict = _without_evidence(verdict)
                if needs_reference and reference is not None and verdict.status is Status.PASS and name not in ALONE:
                    _refuse_itself(name, candidate, reference)
                seconds, engine_seconds = time.perf_counter() - started, context.engine_seconds() - engine_before
        except Exception as error:
            context.refuse(name, error, time.perf_counter() - started, context.engine_seconds() - engine_before)
            context.raised(error)
            raise
        context.record(verdict, seconds, engine_seconds)
        # A check that needs no reference may be called without one.
        compared = candidate.variant.unoptimized() if reference is None else reference.variant
        tolerated = Status.INCONCLUSIVE if context.warn_if_inconclusive else Status.PASS
        if verdict.status not in {Status.PASS, tolerated}:
            failure = VerdictError(explain(verdict, candidate.variant, compared))
            context.raised(failure)
            raise failure
        if verdict.status is Status.INCONCLUSIVE:
            warnings.warn(explain(verdict, candidate.variant, compared), LlmoptWarning, stacklevel=2)
        return verdict

    assert_check.__name__ = f"assert_{name}"
    return assert_check


def _is_needed(signature: inspect.Signature, name: str) -> bool:
    """Whether a check cannot do without an argument."""
    parameter = signature.parameters.get(name)
    return parameter is not None and parameter.default is parameter.empty and "None" not in str(parameter.annotation)


def _sides(signature: inspect.Signature, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Any, Any]:
    """What was given as candidate and as reference; None for what was not."""
    given = {**dict(zip(signature.parameters, args, strict=False)), **options}
    return given.get("candidate"), given.get("reference")


def _refuse_other_roles(name: str, signature: inspect.Signature, sides: Mapping[str, Any]) -> None:
    """Refuse a side in the place of the other: its verdict would be recorded as the candidate's.

    Raises:
        OptionError: naming the side and the place.
    """
    for place, side in sides.items():
        role = getattr(side, "role", place)
        if role != place:
            order = [item.name for item in signature.parameters.values() if item.kind is item.POSITIONAL_OR_KEYWORD]
            msg = (
                f"the {role} stands in the place of the {place}: assert_{name} takes ({', '.join(order)}, ...), each "
                "fixture under its own name"
            )
            raise OptionError(msg)


def _without_evidence(verdict: Verdict) -> Verdict:
    """The verdict where nothing may be left unjudged: FAIL, with what was."""
    missing = Metric(Estimate.exact(len(verdict.not_judged)), Tolerance(at_most=0), "parts")
    return dataclasses.replace(verdict, metrics={**verdict.metrics, "not_judged": missing})


def _refuse_itself(name: str, candidate: Side, reference: Side) -> None:
    """Refuse a PASS of a comparison of something with itself.

    After the check, so that whatever is wrong with its arguments, or with the model, is said first.

    Raises:
        OptionError: both sides are one engine, as a session opens one for each variant.
    """
    if bare(candidate.engine) is bare(reference.engine):
        msg = (
            f"both sides are {candidate.variant.label} of {candidate.variant.model}, and nothing differs from itself, "
            f"so assert_{name} would always pass. Say what the candidate is by a marker, such as "
            "@llmopt.static_cache(), or what the reference is, by @llmopt.against(...)"
        )
        raise OptionError(msg)
