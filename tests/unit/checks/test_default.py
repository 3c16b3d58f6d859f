"""One table says which checks a promise gets, and nothing that it names is missing."""

import inspect

import pytest

from pytest_llmopt.checks._default import DEFAULT, PLAIN, default_gate
from pytest_llmopt.core.optimization import Promise
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant

OPTIMIZATIONS = Registry("optimizations", "optimization")


def variant(*names):
    return Variant("tiny-llama", tuple(Applied(name, OPTIMIZATIONS.load(name)()) for name in names))


@pytest.mark.parametrize("promise", Promise)
def test_every_promise_has_checks_that_exist_and_take_these_settings(promise):
    assert DEFAULT[promise]
    for step in DEFAULT[promise]:
        check = Registry("checks", "check").load(step.check)
        assert set(step.settings) <= set(inspect.signature(check).parameters)


@pytest.mark.parametrize(
    ("names", "checks"),
    [
        (("decoding.static_cache",), ["equivalent", "optimized", "invariant"]),
        (("kernels.attention",), ["equivalent", "optimized", "invariant"]),
        (("decoding.assisted",), ["equivalent", "optimized", "invariant", "seeded", *["lossless"] * 4]),
        (("quantization.bitsandbytes",), ["optimized", "accurate", "invariant"]),
        (("quantization.bitsandbytes", "decoding.assisted"), ["optimized", "accurate", "invariant"]),
        ((), ["equivalent", "invariant"]),
    ],
)
def test_the_weakest_promise_decides(names, checks):
    assert [step.check for step in default_gate(variant(*names))] == checks


def test_a_candidate_without_optimizations_is_still_judged():
    assert default_gate(variant()) == PLAIN
