"""What every check must be: a function to a verdict, from two sides or from one."""

import importlib
import inspect

import pytest

from pytest_llmopt import llmopt
from pytest_llmopt.core.registry import Registry

CHECKS = Registry("checks", "check")


@pytest.fixture(params=CHECKS.names())
def name(request):
    return request.param


@pytest.fixture
def check(name):
    return CHECKS.load(name)


def test_there_are_checks():
    assert {"accurate", "equivalent", "within_budget"} <= set(CHECKS.names())


def test_it_is_a_function_named_after_its_file(name, check):
    assert inspect.isfunction(check)
    assert check.__name__ == name
    assert importlib.import_module(f"pytest_llmopt.checks.{name}").__all__ == [name]


def test_it_takes_the_sides_that_it_compares_first_and_gives_a_verdict(check):
    signature = inspect.signature(check)
    first = list(signature.parameters)[:2]
    assert first in (["candidate", "reference"], ["candidate", "prompts"])
    assert signature.return_annotation in {"Verdict", "pytest_llmopt.Verdict"}


def test_its_settings_are_keywords_with_defaults(check):
    kinds = inspect.Parameter
    for parameter in list(inspect.signature(check).parameters.values())[2:]:
        if parameter.kind is kinds.KEYWORD_ONLY:
            assert parameter.default is not kinds.empty, parameter.name


def test_it_documents_every_argument(check):
    documentation = inspect.getdoc(check)
    assert documentation.startswith("A verdict on ")
    for name in inspect.signature(check).parameters:
        assert f"{name}:" in documentation


def test_its_assertion_has_its_signature_and_documentation(name, check):
    assertion = getattr(llmopt, f"assert_{name}")
    assert assertion.__name__ == f"assert_{name}"
    assert inspect.signature(assertion) == inspect.signature(check)
    assert assertion.__doc__ == check.__doc__
