"""An optimization is found where it was defined, whatever else has the name of its module."""

import importlib.util
import sys

import pytest

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.written import home_of, kind_at

TEXT = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True)
class Change:
    size: int = {size}

    def for_transformers(self, plan):
        return self.size
"""


def conftest(folder, size):
    """A module as pytest imports a conftest: under that name, in place of the one before."""
    folder.mkdir()
    file = folder / "conftest.py"
    file.write_text(TEXT.format(size=size))
    spec = importlib.util.spec_from_file_location("conftest", file)
    module = sys.modules["conftest"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two conftests of one project; the second one is `conftest` now."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "conftest", None)
    yield conftest(tmp_path / "outer", 1), conftest(tmp_path / "inner", 2)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_class_tells_its_own_file_and_not_that_of_a_later_module_of_its_name(two):
    assert [home_of(module.Change)["file"] for module in two] == [module.__file__ for module in two]


def test_each_of_two_conftests_is_found_beside_the_other(two):
    homes = [home_of(module.Change) for module in two]
    del sys.modules["conftest"]  # as in another process
    for _ in range(2):  # also when both are there already
        assert [kind_at("test.change", home)().size for home in homes] == [1, 2]


def test_what_is_there_is_not_run_again(two):
    _, inner = two
    assert kind_at("test.change", home_of(inner.Change)) is inner.Change


def test_a_file_that_is_gone_is_said_with_its_name(two):
    outer, _ = two
    home = home_of(outer.Change) | {"file": "/no/such/conftest.py"}
    with pytest.raises(OptionError, match=r"/no/such/conftest\.py.*cannot be found from another process"):
        kind_at("test.change", home)


def test_a_registered_class_is_the_one_of_its_name():
    from pytest_llmopt.optimizations.decoding.static_cache import StaticCache

    assert kind_at("decoding.static_cache", home_of(StaticCache)) is StaticCache
