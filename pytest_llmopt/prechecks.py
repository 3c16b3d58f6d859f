"""What can be told before the first test: models, devices and backends that do not exist end the run in a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmopt.core.engine import Prechecks
from pytest_llmopt.core.errors import LlmoptError, ModelError, RequirementMissingError
from pytest_llmopt.core.requirements import require
from pytest_llmopt.core.sources import NotHereError
from pytest_llmopt.outcomes import COMPARISON
from pytest_llmopt.session import REQUIREMENTS, Session

if TYPE_CHECKING:
    import pytest

    from pytest_llmopt.core.variant import Variant


RUNS_NOTHING = ("collectonly", "setupplan", "show_fixtures_per_test")
"""Options of pytest under which no fixture runs, so that no model has to be there."""


def refusals(config: pytest.Config, items: list[pytest.Item]) -> dict[str, list[pytest.Item]]:
    """What is wrong with the two sides of tests, in a sentence each, with the tests that it is wrong for.

    A test that will be skipped for its requirements is left to that. What only a marker names may still be made by a
    fixture, so that it is looked for again when the test runs.
    """
    if any(config.getoption(name, default=False) for name in RUNS_NOTHING):
        return {}
    session = Session.of(config)
    checked: dict[str, LlmoptError | None] = {}
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        comparison = item.stash.get(COMPARISON, None)
        if comparison is None:
            continue
        for role in ("candidate", "reference"):
            variant = getattr(comparison, role)
            if variant.digest not in checked:
                checked[variant.digest] = _checked(session, variant)
            error = checked[variant.digest]
            if error is not None and _counts(session, error, role, item):
                tests.setdefault(f"{role}: {error}", []).append(item)
                break
    return tests


def _checked(session: Session, variant: Variant) -> LlmoptError | None:
    """What an engine finds wrong with a variant; None where it finds nothing or does not look."""
    try:
        engine = session.engines.load(variant.engine)
        if isinstance(engine, Prechecks):
            engine.precheck(variant, session.settings.policy)
    except ImportError:
        return None  # of an engine's own library; its test will say so
    except LlmoptError as error:
        return error
    return None


def _counts(session: Session, error: LlmoptError, role: str, item: pytest.Item) -> bool:
    """Whether an error ends the run."""
    if isinstance(error, RequirementMissingError):
        # A device that the command line names is a mistake; one that a marker names is a requirement.
        return error.name == "gpu" and role == "candidate"
    named = {*session.settings.models(), session.settings.get("draft")}
    if isinstance(error, NotHereError) and error.name not in named:
        return False
    return not (isinstance(error, ModelError) and _is_skipped(item))


def _is_skipped(item: pytest.Item) -> bool:
    """Whether a requirement of a test is missing."""
    try:
        require(*item.stash.get(REQUIREMENTS, ()))
    except RequirementMissingError:
        return True
    return False
