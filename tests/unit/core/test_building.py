"""`build` makes an optimization from the arguments of a marker, and says what is wrong with them."""

from dataclasses import dataclass

import pytest

from pytest_llmopt.core.errors import CombinationError, OptionError
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.optimization import build, one_of
from pytest_llmopt.engines._transformers.plan import LoadPlan


@dataclass(frozen=True)
class Packed:
    bits: int = 4
    group_size: int = 128

    def __post_init__(self):
        one_of("bits", self.bits, (4, 8))
        if self.group_size < 1:
            message = f"group_size={self.group_size} groups nothing"
            raise OptionError(message)


@dataclass(frozen=True)
class Bare:
    """No options at all."""


@dataclass(frozen=True)
class Demanding:
    needed: int


@pytest.mark.parametrize(
    ("args", "options", "built"),
    [
        ((), {}, Packed()),
        ((8,), {}, Packed(8)),
        ((8, 32), {}, Packed(8, 32)),
        ((8,), {"group_size": 32}, Packed(8, 32)),
        ((), {"group_size": 32, "bits": 8}, Packed(8, 32)),
    ],
)
def test_positional_arguments_fill_the_options_in_order(args, options, built):
    assert build(Packed, "packed", args, options) == built


@pytest.mark.parametrize(
    ("kind", "args", "options", "message"),
    [
        (
            Packed,
            (),
            {"group_sise": 3},
            r"p has no option 'group_sise'; did you mean 'group_size'\? options: bits, group",
        ),
        (Packed, (), {"zzz": 3}, r"p has no option 'zzz'; options: bits, group_size$"),
        (Bare, (), {"zzz": 3}, r"options: none$"),
        (Packed, (8,), {"bits": 8}, r"p got 'bits' twice"),
        (Packed, (1, 2, 3), {}, r"p takes at most 2 options \(bits, group_size\), got 3"),
        (Bare, (1,), {}, r"p takes at most 0 options \(none\), got 1"),
        (Packed, (3,), {}, r"p: bits=3 is not possible; allowed: 4, 8"),
        (Packed, (), {"group_size": 0}, r"p: group_size=0 groups nothing"),
        (Packed, (), {"group_size": "x"}, r"p: group_size='x' is not possible; give a whole number"),
        (Demanding, (), {}, r"p: missing 1 required positional argument: 'needed'"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said_with_the_name(kind, args, options, message):
    with pytest.raises(OptionError, match=message):
        build(kind, "p", args, options)


def test_one_of_accepts_an_allowed_value_also_among_unhashable_ones():
    one_of("x", None, (None, "a"))
    with pytest.raises(OptionError, match=r"x=\[1\] is not possible"):
        one_of("x", [1], (None, "a"))


def test_a_plan_argument_is_set_by_one_optimization_only():
    plan = LoadPlan("m", "float32", "cpu", LoadPolicy())
    plan.set("generate", "cache", "static", by="cache")
    plan.set("generate", "cache", "static", by="same again")
    plan.set("load", "cache", "another section", by="loader")
    with pytest.raises(
        CombinationError, match=r"quant sets generate argument 'cache' to 'dynamic', .* already 'static'"
    ):
        plan.set("generate", "cache", "dynamic", by="quant")
    assert plan.generate == {"cache": "static"}


def test_plans_share_nothing():
    one, other = (LoadPlan("m", "float32", "cpu", LoadPolicy()) for _ in range(2))
    one.set("load", "key", 1, by="x")
    one.after_load.append(print)
    assert not other.load
    assert not other.after_load
