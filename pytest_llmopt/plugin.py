"""The pytest plugin: options, markers, fixtures, records and the table.

Every pytest run in the environment imports this file, so it imports next to nothing; what a run with tests of ours
needs is imported when the first of them turns up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmopt.fixtures import candidate, llmopt_model, llmopt_variant, prompts, reference, skip_or_fail
from pytest_llmopt.keeper import CARRIED, Keeper
from pytest_llmopt.names import MARKERS, PREFIX, is_ours, model_of, own_markers
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
    keeper = Keeper(config)
    config.pluginmanager.register(keeper, KEEPER)
    if config.stash[SETTINGS].get("timeout"):
        config.pluginmanager.register(Clock(config.stash[SETTINGS].get("timeout"), keeper.give_up), "llmopt-clock")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for a side once per model."""
    if "llmopt_model" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker(f"{PREFIX}model")
    models = metafunc.config.stash[SETTINGS].models(() if mark is None else tuple(map(str, mark.args)))
    if not models:
        msg = (
            f"{metafunc.definition.nodeid}: no model to test: give --llmopt-model FOLDER_OR_ID "
            "(`--llmopt-model zoo` for the models that ship with the package), or @llmopt.model(...)"
        )
        raise pytest.UsageError(msg)
    ids = [model.rstrip("/").rpartition("/")[2] for model in models]
    metafunc.parametrize("llmopt_model", models, ids=ids, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep the tests of one candidate on one worker, for `--dist loadgroup`, so that it is loaded once."""
    if model_of(item) is not None and item.config.getoption("loadgroup", default=False):
        from pytest_llmopt import collection

        item.add_marker(pytest.mark.xdist_group(collection.group(item)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Turn the markers of every selected test into variants, and bring tests of the same variants together.

    Raises:
        pytest.UsageError: markers are wrong; names every test that has such markers.
    """
    if any(map(is_ours, items)):
        from pytest_llmopt import collection

        collection.describe(config, items)
        items[:] = collection.grouped(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check what a test needs before any fixture loads anything."""
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
