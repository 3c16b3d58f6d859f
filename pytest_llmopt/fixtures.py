"""The fixtures that tests ask for: `candidate`, `reference`, `prompts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

import pytest

from pytest_llmopt.names import ASK
from pytest_llmopt.options import SETTINGS

if TYPE_CHECKING:
    from pytest_llmopt.core.errors import RequirementMissingError
    from pytest_llmopt.core.prompts import PromptSet
    from pytest_llmopt.core.side import Side
    from pytest_llmopt.session import Session

Role: TypeAlias = Literal["candidate", "reference"]


@pytest.fixture
def llmopt_model(request: pytest.FixtureRequest) -> str:
    """The model under test: filled in by the plugin from `--llmopt-model` or the `model` marker."""
    if not hasattr(request, "param"):
        reason = "request.getfixturevalue comes too late for a side, whose model is chosen at collection"
        pytest.fail(f"{request.node.nodeid}: {reason}: {ASK}", pytrace=False)
    return str(request.param)


@pytest.fixture
def llmopt_variant(request: pytest.FixtureRequest) -> str | None:
    """The id of the variant that `llmopt.variants` gives to this run of the test, if it does."""
    return getattr(request, "param", None)


@pytest.fixture
def candidate(request: pytest.FixtureRequest, llmopt_model: str, llmopt_variant: str | None) -> Side:  # noqa: ARG001
    """The optimized model that the markers of the test describe."""
    return _side(request, "candidate")


@pytest.fixture
def reference(request: pytest.FixtureRequest, llmopt_model: str, llmopt_variant: str | None) -> Side:  # noqa: ARG001
    """The same model without optimizations, or what the `against` marker describes."""
    return _side(request, "reference")


@pytest.fixture(scope="session")
def prompts(pytestconfig: pytest.Config) -> PromptSet:
    """The prompts of `--llmopt-prompts`. Override it in a conftest to use your own: a list of texts will do."""
    from pytest_llmopt.core.prompts import PromptSet

    return PromptSet.load(pytestconfig.stash[SETTINGS].prompts)


def _side(request: pytest.FixtureRequest, role: Role) -> Side:
    from pytest_llmopt.core.errors import RequirementMissingError
    from pytest_llmopt.outcomes import COMPARISON, OPENING
    from pytest_llmopt.session import Session

    session = Session.of(request.config)
    comparison = request.node.stash[COMPARISON]
    context = session.context(request.node, comparison)
    # What the reference is must be known before a candidate can change it, whichever of them a test names first.
    first: tuple[Role, ...] = ("reference",) if "reference" in request.fixturenames else ()
    opened: Role
    for opened in dict.fromkeys((*first, role)):
        request.node.stash[OPENING] = opened
        try:
            side = session.open(opened, comparison, context)
        except RequirementMissingError as error:
            skip_or_fail(session, error, getattr(comparison, opened).label)
    request.node.stash[OPENING] = ""
    # What is handed out to a test is in use until its end.
    request.addfinalizer(session.loader.release)
    return side


def skip_or_fail(session: Session, error: RequirementMissingError, label: str) -> NoReturn:
    """Skip for a missing requirement, or fail when `--llmopt-require` names it or an optimization that needs it."""
    required = session.required(error, label)
    if required:
        message = f"required by --llmopt-require {','.join(sorted(required))}: {error}"
        raise pytest.fail.Exception(message, pytrace=False) from error
    msg = f"{error.name}: {error}"
    raise pytest.skip.Exception(msg) from error
