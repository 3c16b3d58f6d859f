"""Fake quantizers against brute force, and against what bitsandbytes and torchao make of the same weights."""

import math

import numpy as np
import pytest
import torch

from pytest_llmopt.statistics.fake_quantizers import CODE_BOOKS, affine, asymmetric, code_book, sqnr_db, symmetric

WEIGHTS = np.random.default_rng(5).standard_normal((32, 128)).astype(np.float32)
SHUFFLED = np.random.default_rng(6).permutation(128)


def nearest(value, levels):
    return min(levels, key=lambda level: abs(level - value))


def by_hand(values, group_size, levels_of):
    """Every value to the nearest level of its group, one by one."""
    rounded = np.empty_like(values)
    for row in range(len(values)):
        for start in range(0, values.shape[1], group_size):
            group = values[row, start : start + group_size]
            levels = levels_of(group)
            rounded[row, start : start + group_size] = [nearest(value, levels) for value in group]
    return rounded


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [32, 48, 128])
def test_symmetric_integers_are_the_nearest_ones(bits, group_size):
    top = 2 ** (bits - 1)

    def levels(group):
        return np.arange(-top, top) * (np.abs(group).max() / (top - 1))

    values = WEIGHTS[:4]
    assert symmetric(values, bits, group_size=group_size) == pytest.approx(
        by_hand(values, group_size, levels), abs=1e-5
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_asymmetric_integers_are_the_nearest_ones(bits):
    top = 2**bits - 1

    def levels(group):
        step = (max(group.max(), 0) - min(group.min(), 0)) / top
        return (np.arange(top + 1) - np.rint(-min(group.min(), 0) / step)) * step

    values = WEIGHTS[:4] + 0.7
    assert asymmetric(values, bits, group_size=32) == pytest.approx(by_hand(values, 32, levels), abs=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_affine_steps_are_the_nearest_ones_between_the_extremes(bits):
    def levels(group):
        return np.linspace(group.min(), group.max(), 2**bits)

    values = WEIGHTS[:4] + 5
    assert affine(values, bits, group_size=32) == pytest.approx(by_hand(values, 32, levels), abs=1e-5)


def test_a_fitted_offset_keeps_the_steps_and_makes_the_error_smaller():
    plain, fitted = affine(WEIGHTS, 2, group_size=32), affine(WEIGHTS, 2, group_size=32, fits=5)
    assert sqnr_db(WEIGHTS, plain) < sqnr_db(WEIGHTS, fitted)
    for rounded in (plain, fitted):
        group = np.unique(rounded[0, :32])
        assert np.diff(group) == pytest.approx(np.ptp(WEIGHTS[0, :32]) / 3, rel=1e-4)
    # The error of a fitted offset has no constant part left, once its codes no longer change.
    settled = affine(WEIGHTS, 2, group_size=32, fits=100)
    assert (WEIGHTS - settled).reshape(32, 4, 32).mean(axis=2) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("quant_type", ["Q4_1", "Q5_1"])
def test_affine_blocks_are_those_of_llama_cpp(quant_type):
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[quant_type]
    theirs = gguf.dequantize(gguf.quantize(WEIGHTS, kind), kind)
    own = affine(WEIGHTS, int(quant_type[1]), group_size=32)
    assert sqnr_db(WEIGHTS, own) == pytest.approx(sqnr_db(WEIGHTS, theirs), abs=0.02)


@pytest.mark.parametrize("book", list(CODE_BOOKS))
def test_code_books_give_the_nearest_level(book):
    values = WEIGHTS[:4]
    expected = by_hand(values, 64, lambda group: CODE_BOOKS[book] * np.abs(group).max())
    assert code_book(values, CODE_BOOKS[book], group_size=64) == pytest.approx(expected, abs=1e-5)


def test_act_order_is_grouping_after_a_permutation():
    expected = np.empty_like(WEIGHTS)
    expected[:, SHUFFLED] = symmetric(WEIGHTS[:, SHUFFLED], 4, group_size=32)
    assert np.array_equal(symmetric(WEIGHTS, 4, group_size=32, order=SHUFFLED), expected)
    assert not np.array_equal(symmetric(WEIGHTS, 4, group_size=32), expected)


def test_one_scale_for_the_tensor_is_that_of_its_largest_weight():
    whole = symmetric(WEIGHTS, 8, largest=float(np.abs(WEIGHTS).max()))
    assert len(np.unique(whole)) <= 256
    steps = asymmetric(WEIGHTS, 8, span=(-8.0, 8.0)) / (16 / 255)
    assert steps == pytest.approx(np.rint(steps), abs=1e-3)


@pytest.mark.parametrize("book", ["nf4", "fp4"])
def test_4_bit_types_are_those_of_bitsandbytes(book):
    functional = pytest.importorskip("bitsandbytes.functional")
    given = torch.from_numpy(WEIGHTS)
    theirs = functional.dequantize_4bit(*functional.quantize_4bit(given, blocksize=64, quant_type=book)).numpy()
    own = code_book(WEIGHTS, CODE_BOOKS[book], group_size=64)
    assert (np.abs(own - theirs) > 1e-5).mean() < 1e-3, "but for ties"
    assert sqnr_db(WEIGHTS, own) == pytest.approx(sqnr_db(WEIGHTS, theirs), abs=0.02)


def test_fp8_is_that_of_torch():
    scales = np.abs(WEIGHTS).max(axis=1, keepdims=True) / 448
    theirs = torch.from_numpy(WEIGHTS / scales).to(torch.float8_e4m3fn).float().numpy() * scales
    assert code_book(WEIGHTS, CODE_BOOKS["fp8_e4m3"]) == pytest.approx(theirs, abs=1e-5)


def test_int8_is_as_good_as_that_of_torchao():
    quantization = pytest.importorskip("torchao.quantization")
    layer = torch.nn.Linear(128, 32, bias=False)
    layer.weight.data = torch.from_numpy(WEIGHTS.copy())
    model = torch.nn.Sequential(layer)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    theirs = model[0].weight.dequantize().detach().numpy()
    honest = [sqnr_db(WEIGHTS, symmetric(WEIGHTS, 8, half_range=half)) for half in (127, 127.5)]
    assert min(honest) - 0.01 <= sqnr_db(WEIGHTS, theirs) <= max(honest) + 0.01


def test_sqnr_is_a_ratio_of_powers_and_nan_stays():
    assert sqnr_db(np.full(4, 10.0), np.full(4, 9.0)) == pytest.approx(20.0)
    assert sqnr_db(np.full(4, 10.0), np.full(4, 10.0)) == math.inf
    assert sqnr_db(np.full(4, 10.0), np.full(4, 10.0), noise=4.0) == pytest.approx(20.0)
    assert math.isnan(sqnr_db(np.ones(2), np.array([1.0, np.nan])))
