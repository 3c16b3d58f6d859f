"""The mutation benchmark in small: two mutants a category are caught, and none of them touches the reference."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "mutation"
sys.path.insert(0, str(BENCHMARK))

from cases import Case  # noqa: E402
from mutation import CATEGORIES, catalogue, load_offered, pytest_llmopt_optimizations  # noqa: E402

from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder  # noqa: E402
from pytest_llmopt.core.prompts import PromptSet  # noqa: E402
from pytest_llmopt.core.registry import Registry  # noqa: E402
from pytest_llmopt.core.tokens import Continuation  # noqa: E402
from pytest_llmopt.runtime.loader import Loader  # noqa: E402

MUTANTS = {entry.id: entry for entry in catalogue(benign=False)}
FAST = {
    "kv_cache": ("kv01_mask_dropped", "kv09_windows_swapped"),
    "speculative_greedy": ("sp_last_proposal_unchecked", "sp_room_ignored"),
    "speculative_sampled": ("sp01_accepts_everything", "sp04_target_not_warped"),
    "attention": ("at12_heads_tiled", "at08b_window_one_more"),
    "weight_quantization": ("wq10_bias_twice", "wq05_group_index_ignored"),
    "activation_quantization": ("aq01_cache_without_scale", "aq03_cache_scale_unused"),
    "graph_capture": ("cg01_buffer_overwritten", "cg09_cache_copied"),
    "batching": ("bp01_position_from_cache", "bppad_padding_attended"),
    "sampling": ("sl05_temperature_twice", "sl_checkpoint_penalty"),
    "export": ("ex02_rope_rows_left_permuted", "ex05_bias_flags_not_inferred"),
    "performance": ("pf05_layers_unpatched", "pf_compiled_per_call"),
    "loading": ("ld_layers_shifted", "ld_late_rows_zero"),
}
BENIGN = ("bn06_batch_of_three", "bn07_assisted")
"""One that is judged as equivalent, and one as lossless: each by all checks of its promise."""


@pytest.fixture(scope="module")
def floors(tmp_path_factory):
    return tmp_path_factory.mktemp("floors")


@pytest.fixture(scope="module")
def loader():
    own = Loader(Registry("engines", "engine"), LoadPolicy(threads=1))
    yield own
    own.close()


def test_the_fast_subset_is_two_of_every_category():
    assert set(FAST) == set(CATEGORIES)
    assert all(len(ids) == 2 and set(ids) <= set(MUTANTS) for ids in FAST.values())


def test_every_mutant_has_its_papers():
    entries = catalogue()
    assert len(MUTANTS) >= 136 + 32
    assert sum(entry.benign and not entry.is_control for entry in entries) >= 34 + 12
    for entry in entries:
        assert entry.kind.source, entry.id
        assert entry.kind.category in CATEGORIES, entry.id
        entry.variant().check()


def test_the_public_hook_offers_every_mutant():
    offered = pytest_llmopt_optimizations(None)
    assert set(offered) == {entry.full_name for entry in catalogue()}


def judged(entry, loader, floors):
    """What the gate says, and what the reference thinks of a few texts before and after."""
    torch._dynamo.reset()  # the graphs of another mutant count against this one's limit
    prompts = PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")
    context = loader.context(floors)
    reference = loader.side(entry.reference(), "reference", context)
    encoded = [prompt.encode(reference)[:48] for prompt in prompts]
    given = [Continuation(ids[:1], ids[1:]) for ids in encoded if len(ids) > 8][:4]
    before = reference.score(given)
    candidate = loader.side(entry.variant(), context=context, anew=True)
    try:
        caught = load_offered(BENCHMARK / "judges" / "gate.py")(Case(candidate, reference, prompts, seed=0))
        return caught, before, reference.score(given)
    finally:
        candidate.close()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [name for ids in FAST.values() for name in ids])
def test_the_gate_catches_it_and_the_reference_stays_as_it_was(mutant, loader, floors):
    caught, before, after = judged(MUTANTS[mutant], loader, floors)
    assert caught is not None
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.top_logprobs, other.top_logprobs)
        assert np.array_equal(one.top_ids, other.top_ids)


@pytest.mark.slow
@pytest.mark.parametrize("difference", BENIGN)
def test_the_gate_lets_a_benign_difference_pass(difference, loader, floors):
    (entry,) = [entry for entry in catalogue(benign=True) if entry.id == difference]
    assert judged(entry, loader, floors)[0] is None
