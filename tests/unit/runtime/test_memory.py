"""What a variant will want is estimated from its local weights, before anything is loaded."""

import pytest

from pytest_llmopt.core.loading import ZOO, locate
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.runtime.memory import available_bytes, wanted_bytes


def test_there_is_some_memory_here():
    assert available_bytes() > 2**20


@pytest.mark.parametrize("model", ZOO)
def test_a_zoo_model_wants_more_than_its_weights_and_float32_twice_of_it(model):
    in_16_bits = wanted_bytes(Variant(model, dtype="bfloat16"))
    assert in_16_bits > 2**20
    assert wanted_bytes(Variant(model, dtype="float32")) == pytest.approx(2 * in_16_bits, abs=2)
    assert wanted_bytes(Variant(locate(model), dtype="bfloat16")) == in_16_bits


def test_a_model_that_is_not_local_wants_nothing_that_could_be_known():
    assert wanted_bytes(Variant("org/model")) == 0
