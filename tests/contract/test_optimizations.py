"""What every optimization must be, so that a new file needs no edit anywhere else."""

import dataclasses
import importlib
import inspect
import itertools
import math

import pytest

from pytest_llmopt.core.applying import Applier, engines_that_can
from pytest_llmopt.core.errors import CombinationError, OptionError
from pytest_llmopt.core.optimization import AccuracyLimits, Promise, build, options_of
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.names import MARKERS

OPTIMIZATIONS = Registry("optimizations", "optimization")
NAMES = OPTIMIZATIONS.names()
ENGINES = Registry("engines", "engine").names()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def kind(name):
    return OPTIMIZATIONS.load(name)


@pytest.fixture
def built(name, kind):
    """With every option at its default."""
    return build(kind, name, (), {})


def engines_of(name, kind):
    return engines_that_can(name, kind())


def test_there_are_optimizations():
    assert len(NAMES) >= 5


def test_its_name_is_family_and_name(name):
    family, _, own = name.partition(".")
    assert family.isidentifier()
    assert own.isidentifier(), "a marker is named after it"


def test_its_marker_is_not_that_of_another(name):
    own = [other.rpartition(".")[2] for other in NAMES if not other.startswith("quantization.")]
    assert own.count(name.rpartition(".")[2]) <= 1
    assert name.rpartition(".")[2] not in MARKERS


def test_it_is_a_documented_frozen_dataclass(kind, built):
    assert dataclasses.is_dataclass(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}("), "the docstring that dataclass makes says nothing"
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(built, field.name, field.default)


def test_every_option_has_a_default_that_json_can_hold(kind):
    for field in dataclasses.fields(kind):
        assert field.default == () or isinstance(field.default, (str, int, float, bool, type(None))), field.name


def test_it_is_hashable_and_equal_when_built_alike(name, kind, built):
    again = build(kind, name, (), {})
    assert again == built
    assert hash(again) == hash(built)
    assert Variant("m", (Applied(name, built),)).digest == Variant("m", (Applied(name, again),)).digest


def test_its_label_with_defaults_is_its_name_and_at_most_its_first_option(name, built):
    short = name.partition(".")[2]
    label = Applied(name, built).label
    fields = options_of(built)
    assert label == short or label == f"{short}({fields[0].name}={getattr(built, fields[0].name)})"


def test_an_unknown_option_is_refused_with_those_it_has(name, kind):
    with pytest.raises(OptionError) as raised:
        build(kind, name, (), {"no_such_option": 1})
    for piece in (name, "no_such_option", *(field.name for field in dataclasses.fields(kind))):
        assert piece in str(raised.value)


def test_its_promise_is_a_promise(built):
    assert isinstance(built.promise, Promise)


def test_its_limits_are_stated_exactly_when_it_promises_accuracy(built):
    assert hasattr(built, "accuracy_limits") == (built.promise is Promise.ACCURATE)


def test_its_limits_are_possible_and_say_where_they_come_from(built):
    if built.promise is not Promise.ACCURATE:
        return
    limits = built.accuracy_limits
    assert isinstance(limits, AccuracyLimits)
    assert 0 < limits.kl_divergence < math.inf
    assert 0 < limits.top1_agreement <= 1
    assert 1 <= limits.perplexity_ratio < math.inf
    assert limits.source.strip()


def test_its_requirements_have_a_name_and_say_what_is_missing_and_how_to_get_it(built):
    assert isinstance(built.requirements, tuple)
    for requirement in built.requirements:
        assert requirement.name
        assert hash(requirement) == hash(requirement)
        missing = requirement.missing()
        assert missing is None or len(missing) > 10


def test_its_conflicts_name_what_exists_with_a_reason(built):
    families = {name.partition(".")[0] for name in NAMES}
    for other, why in built.conflicts.items():
        assert other in families | set(NAMES)
        assert why.strip()


def test_some_registered_engine_can_apply_it(name, kind):
    assert set(engines_of(name, kind)) & set(ENGINES)


def test_it_knows_no_engine_by_name(kind):
    assert [member for member in dir(kind) if member.startswith("for_")] == []


def test_every_engine_that_can_apply_it_is_registered(name, kind, built):
    assert set(engines_of(name, kind)) <= set(ENGINES)
    for engine in engines_of(name, kind):
        Variant("m", (Applied(name, built),), engine=engine).check()


APPLIERS = Registry("appliers", "applier")


@pytest.mark.parametrize("full", APPLIERS.names())
def test_every_applier_is_of_an_engine_and_an_optimization_that_there_are(full):
    engine, _, optimization = full.partition(".")
    family, _, own = optimization.partition(".")
    assert engine in ENGINES
    assert optimization in NAMES or importlib.import_module(f"pytest_llmopt.optimizations.{family}._{own}")
    applier = APPLIERS.load(full)
    assert isinstance(applier, Applier)
    assert importlib.import_module(f"pytest_llmopt.appliers.{full}").__doc__
    for function in (applier.apply, applier.load):
        assert len(inspect.signature(function).parameters) == 2


def test_its_file_offers_one_name(name, kind):
    module = importlib.import_module(f"pytest_llmopt.optimizations.{name}")
    assert module.__all__ == [kind.__name__]
    assert kind.__module__ == module.__name__
    assert module.__doc__


@pytest.mark.parametrize(("one", "other"), itertools.combinations(NAMES, 2))
def test_two_can_be_stacked_or_are_refused_with_a_reason_in_either_order(one, other):
    applied = [Applied(name, build(OPTIMIZATIONS.load(name), name, (), {})) for name in (one, other)]
    outcomes = []
    for order in (applied, applied[::-1]):
        try:
            Variant("m", tuple(order)).check()
        except CombinationError as error:
            outcomes.append(bool(str(error).partition(": ")[2]))
        else:
            outcomes.append(None)
    assert outcomes in ([None, None], [True, True])
