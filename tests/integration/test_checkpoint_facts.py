"""What a checkpoint says beside its weights is what the reference's says, or is declared; after saving too."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from sides import open_side

from pytest_llmopt.checks.invariant import invariant
from pytest_llmopt.checks.optimized import optimized
from pytest_llmopt.core.checkpoint import FACTS, differences
from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.loading import LoadPolicy, locate
from pytest_llmopt.core.optimization import Promise
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.requests import SaveCheckpoint
from pytest_llmopt.core.side import Context
from pytest_llmopt.core.variant import Applied, Variant
from pytest_llmopt.core.verdict import Status

pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = ["def main(argv):\n    import os\n    return", "The value of the expression is", "one, two, three, four,"]
POLICY = LoadPolicy(threads=1)


def opened(variant, policy=POLICY):
    return open_side(variant, policy)


def variant_of(model, *optimizations):
    registry = Registry("optimizations", "optimization")
    applied = tuple(Applied(name, registry.load(name)(**options)) for name, options in optimizations)
    return Variant(str(model), applied, device="cpu")


@pytest.fixture(scope="module")
def reference():
    return opened(Variant("tiny-llama", device="cpu"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed checkpoint of tiny-llama with a tokenizer of its own, as people publish them."""
    folder = tmp_path_factory.mktemp("packed") / "model"
    opened(variant_of("tiny-llama", ("quantization.bitsandbytes", {}))).ask(SaveCheckpoint(str(folder)))
    (folder / "llmopt-saved.json").unlink()
    return folder


def edit(folder, file, **changes):
    """Change the entries of a JSON file; None removes one."""
    content = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def candidate_of(folder):
    return variant_of("tiny-llama", ("quantization.configured", {"checkpoint": str(folder)}))


def no_end(folder):
    edit(folder, "generation_config.json", eos_token_id=None)
    edit(folder, "config.json", eos_token_id=None)


def another_end(folder):
    edit(folder, "generation_config.json", eos_token_id=7)


def one_more_end(folder):
    edit(folder, "generation_config.json", eos_token_id=[0, 9])


def other_rope(folder):
    rope = json.loads((folder / "config.json").read_text())["rope_parameters"]
    edit(folder, "config.json", rope_parameters=rope | {"factor": 4.0})


def other_ids(folder):
    """Two entries of the vocabulary exchanged."""
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    first, second = [name for name in vocabulary if name.isalpha()][-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def split_differently(folder):
    """Another normalization, which only texts beyond ASCII show."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "NFKC"}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def special_tokens_split(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = [item for item in content["added_tokens"] if item["content"] != "<|pad|>"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    edit(folder, "tokenizer_config.json", pad_token=None)


def template(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def head_stored_twice(folder):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    with safe_open(str(file), "pt") as stored:
        metadata = stored.metadata()
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, file, metadata)
    edit(folder, "config.json", tie_word_embeddings=False)


DIFFERENT = {
    "no end token": (no_end, {"eos_token_ids"}),
    "another end token": (another_end, {"eos_token_ids"}),
    "one more end token": (one_more_end, {"eos_token_ids"}),
    "a stop text": (lambda f: edit(f, "generation_config.json", stop_strings=["END"]), {"stop_strings"}),
    "less room": (lambda f: edit(f, "config.json", max_position_embeddings=512), {"context_length"}),
    "another factor of RoPE": (other_rope, {"rope"}),
    "two ids exchanged": (other_ids, {"tokenizer"}),
    "another normalization": (split_differently, {"tokenizer"}),
    "a special token lost": (special_tokens_split, {"special_tokens", "added_tokens", "tokenizer"}),
    "another padding token": (
        lambda f: edit(f, "tokenizer_config.json", pad_token="<|begin|>"),  # noqa: S106 - no password
        {"special_tokens", "tokenizer"},
    ),
    "a chat template": (template, {"chat_template"}),
    "the head stored twice": (head_stored_twice, {"tied_weights"}),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_each_fact_that_differs_is_found_by_name(tmp_path, packed, reference, case):
    change, facts = DIFFERENT[case]
    folder = tmp_path / "packed"
    shutil.copytree(packed, folder)
    change(folder)
    found = differences(reference.inspect().checkpoint, opened(candidate_of(folder)).inspect().checkpoint)
    assert {item.fact for item in found} == facts


def test_an_honest_checkpoint_says_all_that_the_reference_says(packed, reference):
    candidate = opened(candidate_of(packed))
    assert set(reference.inspect().checkpoint) == set(FACTS) == set(candidate.inspect().checkpoint)
    verdict = optimized(candidate, reference, TEXTS)
    assert verdict.status is Status.PASS
    assert verdict.metrics["checkpoint.facts"].estimate.point == 0


def test_a_checkpoint_without_an_end_fails_with_both_values_and_passes_where_it_is_declared(
    tmp_path, packed, reference
):
    folder = tmp_path / "packed"
    shutil.copytree(packed, folder)
    another_end(folder)
    candidate = opened(candidate_of(folder))
    verdict = optimized(candidate, reference, TEXTS)
    assert verdict.status is Status.FAIL
    untrue = {name for name, metric in verdict.metrics.items() if metric.status is not Status.PASS}
    assert untrue == {"checkpoint.eos_token_ids", "checkpoint.facts"}
    assert any("eos_token_ids is [7], not [0]" in line and "declared=" in line for line in verdict.diagnosis)
    declared = optimized(candidate, reference, TEXTS, declared=("eos_token_ids",))
    assert declared.status is Status.PASS
    assert "declared: eos_token_ids" in declared.evidence
    # Another fact that is declared excuses nothing.
    assert optimized(candidate, reference, TEXTS, declared=("rope",)).status is Status.FAIL


def test_a_fact_that_does_not_exist_cannot_be_declared(reference):
    with pytest.raises(OptionError, match="did you mean 'eos_token_ids'"):
        optimized(reference, reference, TEXTS, declared=("eos_token_id",))


@dataclasses.dataclass(frozen=True)
class Step:
    """An optimization that takes one step after loading."""

    step: object = None
    declared: frozenset = frozenset()
    promise = Promise.EQUIVALENT
    requirements = ()
    conflicts = {}  # noqa: RUF012 - as an optimization has it

    def for_transformers(self, plan):
        plan.after_load.append(self.step)

    def claims(self, _use):
        return []


def shorten(model):
    model.config.max_position_embeddings = 512


def test_an_optimization_may_declare_what_it_changes(reference):
    for declared, status in ((frozenset(), Status.FAIL), (frozenset({"context_length"}), Status.PASS)):
        candidate = opened(Variant("tiny-llama", (Applied("planted.step", Step(shorten, declared)),), device="cpu"))
        assert optimized(candidate, reference, TEXTS).status is status


def saved_and_loaded(variant):
    """The verdict of `save_reload` alone."""
    engine = opened(variant)
    seeds = iter(range(1, 100))

    def reopen(other):
        return opened(other, dataclasses.replace(POLICY, seed=next(seeds)))

    side = dataclasses.replace(engine, context=Context(reopen=reopen))
    return invariant(side, TEXTS, relations=["save_reload"])


def step(change):
    return Variant("tiny-llama", (Applied("planted.step", Step(change)),), device="cpu")


def scaled(model):
    model.model.layers[1].mlp.down_proj.weight.data *= 1.01


def scaled_and_saved_without(model):
    """What is saved is the layer as it was before."""
    import torch

    weight = model.model.layers[1].mlp.down_proj.weight
    before = weight.detach().clone()
    scaled(model)
    save = model.save_pretrained

    def save_pretrained(*args, **options):
        after = weight.detach().clone()
        with torch.no_grad():
            weight.copy_(before)
        save(*args, **options)
        with torch.no_grad():
            weight.copy_(after)

    model.save_pretrained = save_pretrained


def patched(model):
    """No weight is changed: what is saved is to be patched again."""
    model.model.layers[1].self_attn.scaling *= 1.5


def end_lost(model):
    """The end token is lost on the way to the folder."""
    save = model.save_pretrained

    def save_pretrained(folder, **options):
        save(folder, **options)
        no_end(Path(folder))

    model.save_pretrained = save_pretrained


@pytest.mark.parametrize("change", [scaled, patched])
def test_a_step_that_changed_the_weights_is_in_the_saved_copy_and_one_that_did_not_is_taken_again(change):
    assert saved_and_loaded(step(change)).status is Status.PASS


def test_a_merged_adapter_is_not_merged_a_second_time():
    pytest.importorskip("peft")
    for merged in (True, False):
        lora = ("adapters.lora", {"adapter": locate("tiny-llama-lora"), "merged": merged})
        verdict = saved_and_loaded(variant_of("tiny-llama", lora))
        assert verdict.status is Status.PASS
        assert "worst_kl.save_reload" in verdict.metrics


def test_an_adapter_merged_into_a_dequantized_base_is_saved_as_it_runs():
    pytest.importorskip("peft")
    lora = ("adapters.lora", {"adapter": locate("tiny-llama-lora"), "merged": True, "dequantize": True})
    variant = variant_of("tiny-llama", ("quantization.bitsandbytes", {}), lora)
    assert saved_and_loaded(variant).status is Status.PASS


def test_a_copy_that_lost_a_change_of_the_weights_fails_and_names_the_tensor():
    """A change that the evidence about tokens is too coarse for: KL 2e-5."""
    verdict = saved_and_loaded(step(scaled_and_saved_without))
    assert verdict.status is Status.FAIL
    assert any("1 of 39 tensors differ (model.layers.1.mlp.down_proj.weight)" in line for line in verdict.diagnosis)


def test_a_copy_that_says_something_else_beside_its_weights_fails_and_names_it():
    verdict = saved_and_loaded(step(end_lost))
    assert verdict.status is Status.FAIL
    assert any("eos_token_ids is [], not [0]" in line for line in verdict.diagnosis)


def another_layer(model):
    """A layer of a kind that no configuration knows."""
    import torch

    mlp = model.model.layers[1].mlp
    mlp.down_proj = torch.nn.Sequential(mlp.down_proj)


def test_a_copy_that_cannot_be_loaded_fails_with_the_names():
    verdict = saved_and_loaded(step(another_layer))
    assert verdict.status is Status.FAIL
    assert any("down_proj.0.weight" in line for line in verdict.diagnosis)


def test_the_saved_copy_of_a_packed_model_is_what_ran():
    verdict = saved_and_loaded(variant_of("tiny-llama", ("quantization.bitsandbytes", {"bits": 8})))
    assert verdict.status is Status.PASS
