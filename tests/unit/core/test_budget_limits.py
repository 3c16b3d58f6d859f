"""A budget refuses limits that mean nothing."""

import math

import pytest

from pytest_llmopt.core.budget import Budget
from pytest_llmopt.core.errors import OptionError

NUMBERS = ("decode_speedup", "prefill_speedup", "weight_saving", "ttft_ms", "decode_tokens_per_s")


def test_a_budget_without_limits_is_empty():
    assert Budget().is_empty
    assert not Budget(ttft_ms=80).is_empty
    assert not Budget(weight_memory="1 B").is_empty


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, math.inf, "2", True, [2], (1, 2)], ids=repr)
def test_a_limit_that_is_no_positive_number_is_refused_by_name(name, value):
    with pytest.raises(OptionError, match=f"{name}=.* is not possible; give a finite number above 0"):
        Budget(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [1, 1.5])
def test_a_positive_limit_is_kept(name, value):
    assert getattr(Budget(**{name: value}), name) == value


@pytest.mark.parametrize(("size", "size_bytes"), [("6 GiB", 6 * 2**30), ("1.5 MB", 1_500_000), (4096, 4096)])
def test_weight_memory_is_kept_in_bytes(size, size_bytes):
    assert Budget(weight_memory=size).weight_memory == size_bytes


@pytest.mark.parametrize("size", ["much", "", 0, -1, "0 GiB", math.nan, "9" * 200 + " GiB"])
def test_weight_memory_that_is_no_size_is_refused(size):
    with pytest.raises(OptionError, match="size"):
        Budget(weight_memory=size)


def test_equal_budgets_are_equal_however_they_were_written():
    assert Budget(weight_memory="1 KiB") == Budget(weight_memory=1024)
    assert len({Budget(weight_memory="1 KiB"), Budget(weight_memory=1024)}) == 1
