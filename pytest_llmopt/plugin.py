"""The pytest plugin: options, markers, fixtures, records and the table.

Every pytest run in the environment imports this file, so it imports next to nothing; what a run with tests of ours
needs is imported when the first of them turns up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_llmopt.fixtures import candidate, llmopt_model, llmopt_variant, prompts, reference, skip_or_fail
from pytest_llmopt.keeper import CARRIED, Keeper
from pytest_llmopt.names import ASK, MARKERS, MODEL, PREFIX, REFUSED, VARIANT, is_ours, model_of, own_markers
from pytest_llmopt.options import SETTINGS, Settings, add_options
from pytest_llmopt.timeout import Clock

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["candidate", "llmopt_model", "llmopt_variant", "prompts", "reference"]

KEEPER = "llmopt-keeper"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register our hooks."""
    from pytest_llmopt import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and register the markers: ours, and one for each optimization."""
    config.stash[SETTINGS] = Settings.of(config)
    for usage in MARKERS.values():
        config.addinivalue_line("markers", f"{PREFIX}{usage}")
    for name, full_name in own_markers().items():
        config.addinivalue_line("markers", f"{PREFIX}{name}(**options): apply {full_name} to the candidate")
    config.pluginmanager.register(_Arranger(), "llmopt-arranger")
    keeper = Keeper(config)
    config.pluginmanager.register(keeper, KEEPER)
    if config.stash[SETTINGS].get("timeout"):
        config.pluginmanager.register(Clock(config.stash[SETTINGS].get("timeout"), keeper.give_up), "llmopt-clock")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, object, object]:
    """Run every test that asks for a side once per model."""
    ours = MODEL in metafunc.fixturenames
    if not ours and VARIANT not in metafunc.fixturenames:
        parametrized = [mark.args[:1] for mark in metafunc.definition.iter_markers("parametrize")]
        if (VARIANT,) in parametrized:
            # pytest would name a fixture that nobody has written.
            pytest.fail(f"{metafunc.definition.nodeid}: llmopt.variants on a test without a side: {ASK}", pytrace=False)
    if not ours:
        return (yield)
    from pytest_llmopt.generation import apply_model_parameters, choose_models, models_are_given

    if models_are_given(metafunc):
        return (yield)
    choose_models(metafunc)
    result = yield
    apply_model_parameters(metafunc)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep the tests of one candidate on one worker, for `--dist loadgroup`, so that it is loaded once.

    A group of the user's own stays what it is.
    """
    ours = model_of(item) is not None and item.get_closest_marker("xdist_group") is None
    if ours and item.config.getoption("loadgroup", default=False):
        from pytest_llmopt import collection

        item.add_marker(pytest.mark.xdist_group(collection.group(item)))


@pytest.hookimpl(tryfirst=True)
def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Give the reason why we refused a test a place in the short summary."""
    reason = getattr(report, REFUSED, None)
    if reason is not None:
        from pytest_llmopt.collection import Refusal

        report.longrepr = cast("Any", Refusal(report.nodeid, reason))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Turn the markers of every selected test into variants, once all plugins have selected and ordered.

    Raises:
        pytest.UsageError: `--llmopt-require` has a name that nothing answers to.
    """
    if any(map(is_ours, session.items)):
        from pytest_llmopt import collection

        collection.describe(session)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check what a test needs before any fixture loads anything, and after pytest has looked at `skip` and `xfail`."""
    if not is_ours(item):
        return
    from pytest_llmopt import collection

    collection.check_requirements(item)
    keeper: Any = item.config.pluginmanager.get_plugin(KEEPER)
    if keeper.has_crashed(item.nodeid):
        pytest.fail("a worker crashed in this test before, so it is not run again", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Skip where a check found in mid-test that something is missing."""
    if model_of(pyfuncitem) is None:
        return (yield)
    from pytest_llmopt.core.errors import RequirementMissingError
    from pytest_llmopt.outcomes import COMPARISON
    from pytest_llmopt.session import Session

    try:
        return (yield)
    except RequirementMissingError as error:
        skip_or_fail(Session.of(pyfuncitem.config), error, pyfuncitem.stash[COMPARISON].candidate.label)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the records of a test to its report, once every other plugin has said what it makes of the phase."""
    report = yield
    if is_ours(item) or "prompts" in getattr(item, "fixturenames", ()):
        from pytest_llmopt.outcomes import explain

        explain(item, call, report)
    if model_of(item) is not None:
        from pytest_llmopt.outcomes import records_of

        # pytest-xdist carries attributes of plain JSON values to the controller.
        report.__dict__[CARRIED] = [record.to_json() for record in records_of(item, call, report)]
    return report


class _Arranger:
    """Brings tests of the same variants together, before any other plugin orders or selects tests.

    Registered after the others, it is the outermost of those that ask to be first: pytest-randomly, pytest-order,
    `--ff`, `--nf`, `--sw` and a conftest see our order and have the last word.
    """

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Arrange the tests as they were collected."""
        if any(map(is_ours, items)):
            from pytest_llmopt import collection

            items[:] = collection.arrange(config, items)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Say that a test has no parameters before pytest skips it for that."""
        if is_ours(item):
            from pytest_llmopt import collection

            collection.check_parameter_sets(item)
