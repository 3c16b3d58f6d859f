"""The loader opens one engine per variant, keeps it while there is room, and closes all in the end."""

import dataclasses

import pytest

from pytest_llmopt.core.engine import ModelInfo
from pytest_llmopt.core.errors import (
    LlmoptError,
    LlmoptWarning,
    ModelError,
    RequirementMissingError,
    TestTimeoutError,
    UnknownNameError,
)
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requests import MeasureLoading
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.runtime.loader import Loader

SIZE = 1000
POLICY = LoadPolicy(threads=1)


class Machine:
    """Room for a few engines of `SIZE` bytes; remembers what was opened and closed."""

    def __init__(self, room):
        self.room = room * SIZE
        self.open_engines = []
        self.opened = []
        self.policies = []
        self.closed = []

    def available_bytes(self):
        return self.room - SIZE * len(self.open_engines)

    def open(self, variant, policy):
        self.policies.append(policy)
        self.opened.append(variant.device)
        if variant.device == "broken":
            message = f"cannot load {variant.device}"
            raise ModelError(message)
        if variant.device == "slow":
            message = "still running after 300 s"
            raise TestTimeoutError(message)
        engine = FakeEngine(self, variant)
        self.open_engines.append(engine)
        return engine


class FakeEngine:
    """As much of an engine as the loader uses."""

    answers = frozenset()

    def __init__(self, machine, variant):
        self.machine = machine
        self.variant = variant
        self.info = ModelInfo(variant, 7, "float32")

    def close(self):
        self.machine.open_engines.remove(self)
        self.machine.closed.append(self.variant.device)


@pytest.fixture
def variant(tmp_path):
    """A function that makes a variant of a model that wants `SIZE` bytes; its device is its name."""
    tmp_path.joinpath("model.safetensors").write_bytes(b"x" * (SIZE // 3))

    def variant(name, dtype="float32"):
        return Variant(str(tmp_path), (), dtype, device=name, engine="fake")

    return variant


def loader_on(machine):
    return Loader(Registry("engines", "engine", {"fake": machine}), POLICY, machine.available_bytes)


def test_a_variant_is_loaded_once_however_often_it_is_described(variant):
    machine = Machine(room=9)
    loader = loader_on(machine)
    assert loader.get(variant("a")) is loader.get(variant("a"))
    assert loader.get(variant("b")) is not loader.get(variant("a"))
    assert machine.opened == ["a", "b"]
    assert loader.loads == [variant("a").digest, variant("b").digest]


def test_nothing_is_evicted_while_there_is_room(variant):
    machine = Machine(room=3)
    loader = loader_on(machine)
    for name in "abc":
        loader.get(variant(name))
    assert machine.closed == []


def test_the_least_recently_used_engine_is_evicted_first_and_no_more_than_needed(variant):
    machine = Machine(room=3)
    loader = loader_on(machine)
    for name in "abca":
        loader.get(variant(name))
    loader.release()
    loader.get(variant("d"))
    assert machine.closed == ["b"]
    loader.get(variant("e"))
    assert machine.closed == ["b", "c"]


def test_every_load_anew_has_a_seed_of_its_own(variant):
    machine = Machine(room=9)
    loader = loader_on(machine)
    loader.get(variant("a"))
    engines = [loader.reopen(variant("a")) for _ in range(2)]
    assert [policy.seed for policy in machine.policies] == [0, 1, 2]
    assert machine.policies[0] is POLICY
    for engine in engines:
        engine.close()


def test_an_evicted_engine_is_loaded_again(variant):
    machine = Machine(room=1)
    loader = loader_on(machine)
    for name in "aba":
        loader.get(variant(name))
        loader.release()
    assert machine.opened == ["a", "b", "a"]
    assert loader.loads == [variant(name).digest for name in "aba"]


def test_engines_to_keep_are_never_evicted(variant):
    machine = Machine(room=2)
    loader = loader_on(machine)
    kept = variant("reference")
    loader.get(kept)
    loader.get(variant("other"))
    loader.release()
    loader.get(variant("candidate"), keep=(variant("candidate"), kept))
    assert machine.closed == ["other"]
    with pytest.raises(RequirementMissingError, match="while the test uses"):
        loader.get(variant("third"), keep=(kept, variant("candidate"), variant("third")))
    assert machine.closed == ["other"], "short of memory, but both others are in use"


def test_what_was_handed_out_is_never_evicted_and_what_has_no_room_is_refused_until_the_end_of_the_test(variant):
    machine = Machine(room=2)
    loader = loader_on(machine)
    held = [loader.get(variant(name)) for name in "ab"]
    for _ in range(2):  # a refusal for want of room is not remembered as a load that failed
        with pytest.raises(
            RequirementMissingError, match=r"needs 66\d B, and 0 B are free while the test uses"
        ) as raised:
            loader.get(variant("c"))
        assert raised.value.name == "memory"
    with pytest.raises(RequirementMissingError):
        loader.reopen(variant("a"))
    assert machine.open_engines == held
    loader.release()
    loader.get(variant("c"))
    assert machine.closed == ["a"]


def test_three_models_that_fit_one_by_one_never_lie_beside_each_other_unless_there_is_room(variant):
    machine = Machine(room=2)
    loader = loader_on(machine)
    most = 0
    for names in (("reference", "first"), ("reference", "second"), ("reference", "third")):
        keep = tuple(map(variant, names))
        for name in names:
            loader.get(variant(name), keep=keep)
            most = max(most, len(machine.open_engines))
        loader.release()
    assert most == 2
    assert machine.opened == ["reference", "first", "second", "third"]


def test_what_a_quantizer_may_make_smaller_is_not_refused_by_the_size_of_its_checkpoint(variant, tmp_path):
    machine = Machine(room=1)
    loader = loader_on(machine)
    loader.get(variant("a"))
    quantizer = Registry("optimizations", "optimization").load("quantization.bitsandbytes")()
    packed = dataclasses.replace(variant("b"), optimizations=(Applied("quantization.bitsandbytes", quantizer),))
    loader.get(packed)
    assert machine.opened == ["a", "b"]


def test_room_is_made_before_the_new_engine_is_opened(variant):
    machine = Machine(room=1)
    loader = loader_on(machine)
    loader.get(variant("a"))
    loader.release()
    loader.get(variant("b"))
    assert machine.available_bytes() >= 0


def test_a_load_that_failed_fails_again_at_once_with_the_same_error(variant):
    machine = Machine(room=9)
    loader = loader_on(machine)
    errors = []
    for _ in range(2):
        with pytest.raises(ModelError, match="cannot load broken") as raised:
            loader.get(variant("broken"))
        errors.append(raised.value)
    assert errors[0] is errors[1]
    assert machine.opened == ["broken"]
    assert loader.loads == []


def test_a_failed_load_leaves_the_others_alone(variant):
    machine = Machine(room=9)
    loader = loader_on(machine)
    engine = loader.get(variant("a"))
    with pytest.raises(LlmoptError):
        loader.get(variant("broken"))
    assert loader.get(variant("a")) is engine
    loader.close()
    assert machine.closed == ["a"]


def test_a_load_that_the_time_of_a_test_ended_is_tried_again_by_the_next(variant):
    machine = Machine(room=9)
    loader = loader_on(machine)
    for _ in range(2):
        with pytest.raises(TestTimeoutError):
            loader.get(variant("slow"))
    assert machine.opened == ["slow", "slow"]


def test_who_needs_room_is_not_blamed_for_an_engine_that_cannot_be_closed(variant):
    machine = Machine(room=1)
    loader = loader_on(machine)
    stuck = loader.get(variant("a"))
    loader.release()

    def fail():
        machine.open_engines.remove(stuck)
        message = "stuck"
        raise RuntimeError(message)

    stuck.close = fail
    with pytest.warns(LlmoptWarning, match="could not be closed: RuntimeError: stuck"):
        assert loader.get(variant("b")).info.variant.device == "b"


def test_an_engine_whose_costs_cannot_be_had_is_closed(variant):
    class FailingEngine(FakeEngine):
        answers = frozenset({MeasureLoading})

        def ask(self, _request):
            message = "gone"
            raise LlmoptError(message)

    class FailingMachine(Machine):
        def open(self, variant, policy):
            super().open(variant, policy)
            self.open_engines[-1] = FailingEngine(self, variant)
            return self.open_engines[-1]

    machine = FailingMachine(room=9)
    with pytest.raises(LlmoptError, match="gone"):
        loader_on(machine).get(variant("a"))
    assert machine.closed == ["a"]


def test_an_unknown_engine_is_refused_by_name(variant):
    loader = Loader(Registry("no_such_folder", "engine", {"fake": None}), POLICY, lambda: 0)
    with pytest.raises(UnknownNameError, match=r"unknown engine 'none'.* Known: fake"):
        loader.get(Variant("m", engine="none"))


def test_close_closes_every_engine_once(variant):
    machine = Machine(room=9)
    loader = loader_on(machine)
    for name in "abc":
        loader.get(variant(name))
    loader.close()
    loader.close()
    assert sorted(machine.closed) == ["a", "b", "c"]


def test_an_engine_that_cannot_be_closed_does_not_keep_the_others_open(variant):
    machine = Machine(room=9)
    loader = loader_on(machine)
    loader.get(variant("a"))
    stuck = loader.get(variant("b"))

    def fail():
        message = "stuck"
        raise RuntimeError(message)

    stuck.close = fail
    with pytest.raises(RuntimeError, match="stuck"):
        loader.close()
    assert machine.closed == ["a"]


def test_of_several_loads_the_least_of_each_cost_is_kept(variant):
    class TimedEngine(FakeEngine):
        """The first load imports the library, the second is quick."""

        answers = frozenset({MeasureLoading})

        def ask(self, _request):
            return {"load_s": 9.0 if len(self.machine.opened) == 1 else 0.5, "quantize_s": 90.0}

    class TimedMachine(Machine):
        def open(self, variant, policy):
            super().open(variant, policy)
            self.open_engines[-1] = TimedEngine(self, variant)
            return self.open_engines[-1]

    machine = TimedMachine(room=9)
    loader = loader_on(machine)
    loader.get(variant("a"))
    loader.reopen(variant("a"))
    assert loader.costs == {variant("a").digest: {"load_s": 0.5, "quantize_s": 90.0}}


def test_an_engine_that_does_not_watch_its_loading_has_no_costs(variant):
    loader = loader_on(Machine(room=9))
    loader.get(variant("a"))
    assert loader.costs == {}
