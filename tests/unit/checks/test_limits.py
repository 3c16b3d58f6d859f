"""What rounding may change is stated by dtype, and by the coarsest thing that an optimization rounds to."""

from types import SimpleNamespace

import pytest

from pytest_llmopt.checks._limits import limits_for, shape_limits
from pytest_llmopt.core.relation import NotApplicableError, Subject
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.optimizations.decoding.quantized_cache import QuantizedCache


def side(dtype="float32", *options):
    optimizations = tuple(Applied("decoding.quantized_cache", own) for own in options)
    return SimpleNamespace(dtype=dtype, variant=Variant("some-model", optimizations))


def test_a_tf32_product_is_within_the_limits_of_float32_and_a_scale_off_in_one_layer_is_not():
    limits = limits_for(side(), side())
    assert 1.5e-6 < limits.mean_kl < 3.3e-6
    assert 5e-5 < limits.worst_kl < 2.3e-4


@pytest.mark.parametrize(
    ("options", "mean_kl"),
    [
        ({"backend": "fp8"}, 5e-4),
        ({"backend": "hqq", "nbits": 8}, 5e-4),
        ({"backend": "quanto", "nbits": 4}, 0.05),
        ({"backend": "hqq", "nbits": 3}, 0.60),
        ({"backend": "quanto", "nbits": 2}, 0.60),
        ({"backend": "hqq", "nbits": 1}, 0.60),
    ],
)
def test_a_quantized_cache_is_held_to_the_limits_of_its_bits(options, mean_kl):
    assert shape_limits(side("float32", QuantizedCache(**options))).mean_kl == mean_kl
    assert shape_limits(side()).mean_kl == 1e-5


@pytest.mark.parametrize(
    ("options", "shared"),
    [
        ({"backend": "fp8"}, True),
        ({"backend": "hqq"}, True),
        ({"backend": "hqq", "axis_key": 1}, True),
        ({"backend": "hqq", "axis_key": 1, "axis_value": 1}, False),
        ({"backend": "quanto"}, False),
    ],
)
def test_company_matters_where_what_is_stored_together_shares_a_scale(options, shared):
    subject = Subject(side("float32", QuantizedCache(**options)), (), (), None)
    if not shared:
        subject.require_own_scales()
        return
    with pytest.raises(NotApplicableError, match="by one scale"):
        subject.require_own_scales()
