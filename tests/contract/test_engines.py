"""What every engine must be: a kind that opens, and four members that answer requests of plain data."""

import importlib
import inspect

import pytest

from pytest_llmopt.core import requests
from pytest_llmopt.core.engine import Engine, EngineKind, Prechecks
from pytest_llmopt.core.registry import Registry

ENGINES = Registry("engines", "engine")
MEMBERS = {"answers", "ask", "close", "info"}
REQUESTS = {
    item
    for item in vars(requests).values()
    if isinstance(item, type) and issubclass(item, requests.Request) and item is not requests.Request
}


@pytest.fixture(params=ENGINES.names())
def name(request):
    return request.param


@pytest.fixture
def kind(name):
    return ENGINES.load(name)


def test_an_engine_has_four_members():
    assert {name for name in vars(Engine) if not name.startswith("_")} == MEMBERS


def test_its_file_offers_one_documented_name(name, kind):
    module = importlib.import_module(f"pytest_llmopt.engines.{name}")
    assert module.__all__ == [kind.__name__]
    assert module.__doc__
    assert kind.__doc__


@pytest.mark.parametrize("way", ["open", "tokenizer"])
def test_it_comes_about_from_a_variant_and_a_policy(kind, way):
    assert list(inspect.signature(getattr(kind, way)).parameters) == ["variant", "policy"]
    assert inspect.signature(getattr(EngineKind, way)).parameters.keys() == {"variant", "policy"}


def test_what_it_can_tell_before_loading_is_asked_of_the_class_in_the_same_words(kind):
    if not isinstance(kind, Prechecks):
        pytest.skip("it tells nothing before loading")
    assert inspect.signature(kind.precheck) == inspect.signature(Prechecks.precheck)


@pytest.mark.parametrize("member", sorted(MEMBERS - {"answers"}))
def test_every_member_is_there_and_says_what_it_gives(kind, member):
    promised, own = inspect.getattr_static(Engine, member), inspect.getattr_static(kind, member)
    assert isinstance(own, property) == isinstance(promised, property)
    assert inspect.getdoc(own)


def test_it_answers_some_of_the_requests_that_there_are_and_at_least_one_kind_of_evidence(kind):
    assert kind.answers <= REQUESTS
    assert kind.answers & {requests.Generate, requests.Score}


@pytest.mark.parametrize("request_", sorted(REQUESTS, key=lambda item: item.__name__), ids=lambda item: item.__name__)
def test_every_request_is_frozen_documented_and_named_as_a_requirement(request_):
    assert request_.__doc__
    assert request_.__dataclass_params__.frozen
    assert request_.requirement().isidentifier()


def test_its_name_can_follow_for_in_the_methods_of_optimizations(name):
    assert f"for_{name}".isidentifier()
