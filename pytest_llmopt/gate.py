"""All checks of the default gate as one assertion: `llmopt.assert_gate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.assertions import assertion
from pytest_llmopt.checks._default import default_gate
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.errors import LlmoptError, OptionError, RequirementMissingError, VerdictError
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.values import Names

if TYPE_CHECKING:
    from pytest_llmopt.checks._default import Step
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.core.variant import Variant
    from pytest_llmopt.core.verdict import Verdict


@checked
def assert_gate(
    candidate: Side,
    reference: Side,
    prompts: object,
    *,
    checks: Names | None = None,
    stop_at_first: bool = False,
) -> tuple[Verdict, ...]:
    """Run every check that belongs to what the candidate's optimizations promise; a record for each.

    Further checks run after one that fails, so that one run tells all; the failures come in one message.

    Args:
        candidate: the optimized side.
        reference: the side that it is compared with.
        prompts: texts, token ids or a prompt set.
        checks: names of those to run, of the ones that belong to the promise; None for all.
        stop_at_first: end with the first that does not pass.

    Returns:
        The verdicts, in the order in which the checks ran.

    Raises:
        VerdictError: a check did not pass.
        OptionError: none of `checks` belongs to the promise.
        RequirementMissingError: a check needs what is not there, and no other failed.
    """
    __tracebackhide__ = True
    steps = _chosen(candidate.variant, checks)
    registry = Registry("checks", "check")
    verdicts, failures, missing = [], [], []
    for step in steps:
        try:
            verdicts.append(
                assertion(step.check, registry.load(step.check))(
                    candidate=candidate, reference=reference, prompts=prompts, **step.settings
                )
            )
        except VerdictError as error:
            failures.append(str(error))
            if stop_at_first:
                break
        except RequirementMissingError as error:
            missing.append(error)
        except LlmoptError as error:
            if not failures:
                raise
            # What failed before is told with it; nothing more can be asked of an engine that is gone.
            raise VerdictError("\n\n".join([*failures, str(error)])) from error
    if failures:
        raise VerdictError("\n\n".join(failures))
    if missing:
        raise missing[0]
    return tuple(verdicts)


def _chosen(variant: Variant, checks: Names | None) -> list[Step]:
    """The steps of the default gate, or those of some checks.

    Raises:
        OptionError: none of `checks` belongs to the promise.
    """
    steps = default_gate(variant)
    known = dict.fromkeys(step.check for step in steps)
    unknown = [name for name in checks or () if name not in known]
    if unknown:
        msg = f"the default gate of {variant.label} has no {', '.join(unknown)}; it has {', '.join(known)}"
        raise OptionError(msg)
    return [step for step in steps if checks is None or step.check in checks]
