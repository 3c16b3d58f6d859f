"""What every engine must be: token ids and log-probabilities in and out, behind the same names."""

import importlib
import inspect

import pytest

from pytest_llmopt.core.engine import Engine, Prechecks
from pytest_llmopt.core.registry import Registry

ENGINES = Registry("engines", "engine")
MEMBERS = sorted(name for name in vars(Engine) if not name.startswith("_"))


@pytest.fixture(params=ENGINES.names())
def name(request):
    return request.param


@pytest.fixture
def kind(name):
    return ENGINES.load(name)


def test_the_protocol_is_what_these_tests_go_through():
    assert {"variant", "encode", "generate", "score", "footprint", "close"} <= set(MEMBERS)


def test_its_file_offers_one_documented_name(name, kind):
    module = importlib.import_module(f"pytest_llmopt.engines.{name}")
    assert module.__all__ == [kind.__name__]
    assert module.__doc__
    assert kind.__doc__


def test_it_is_opened_with_a_variant_and_a_policy(kind):
    assert list(inspect.signature(kind.open).parameters) == ["variant", "policy"]


def test_what_it_can_tell_before_loading_is_asked_of_the_class_in_the_same_words(kind):
    if not isinstance(kind, Prechecks):
        pytest.skip("it tells nothing before loading")
    assert inspect.signature(kind.precheck) == inspect.signature(Prechecks.precheck)


@pytest.mark.parametrize("member", MEMBERS)
def test_it_has_every_member_of_the_protocol_with_the_same_signature(kind, member):
    promised, own = inspect.getattr_static(Engine, member), inspect.getattr_static(kind, member)
    assert isinstance(own, property) == isinstance(promised, property)
    if not isinstance(promised, property):
        assert list(inspect.signature(own).parameters) == list(inspect.signature(promised).parameters)


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_says_what_it_gives(kind, member):
    assert inspect.getdoc(getattr(kind, member))


def test_its_name_can_follow_for_in_the_methods_of_optimizations(name):
    assert f"for_{name}".isidentifier()
