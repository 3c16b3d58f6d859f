"""A noise floor rests on changes that proved to be benign, and a reference that contradicts itself judges nothing."""

import dataclasses
import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sides import open_side, running_of

from pytest_llmopt.checks._floor.benign_changes import FEW, ROUNDING, measure
from pytest_llmopt.checks._floor.floor import Benign
from pytest_llmopt.checks.equivalent import equivalent
from pytest_llmopt.core.errors import RequirementMissingError, StaleCacheWarning, UnsoundReferenceError
from pytest_llmopt.core.loading import ZOO, LoadPolicy, fixtures_folder, locate
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.side import Context
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.core.verdict import Status

VARIANT = Variant("tiny-llama", dtype="float32", device="cpu")


def opened(variant):
    return closing(open_side(variant, LoadPolicy(threads=1)))


@pytest.fixture(scope="module")
def engine():
    """One that tests plant into, and leave as it was."""
    with opened(VARIANT) as own:
        yield own


@pytest.fixture(scope="module")
def prompts():
    return PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl").take(8)


@pytest.fixture
def planted(engine):
    """A function that hangs a change on the layers' attention outputs, until the end of the test."""
    handles = []

    def plant(change, on=engine):
        attention = running_of(on).loaded.model.model.layers[0].self_attn
        handles.append(attention.register_forward_hook(change, with_kwargs=True))

    yield plant
    for handle in handles:
        handle.remove()


def decoding_off_by(factor):
    """An attention that is wrong where it is given one token, so only in the decode path."""

    def change(_module, _args, kwargs, output):
        one = kwargs["hidden_states"].shape[1] == 1
        return (output[0] * (factor if one else 1.0), *output[1:])

    return change


def sides(candidate, reference, cache):
    context = Context(open=lambda _variant: None, cache=cache)
    return (
        dataclasses.replace(candidate, context=context),
        dataclasses.replace(reference, role="reference", context=context),
    )


@pytest.mark.any_processor
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", ZOO)
def test_on_the_zoo_every_change_proves_itself(model, dtype, prompts):
    with opened(Variant(model, dtype=dtype, device="cpu")) as own:
        before = {name: item.clone() for name, item in running_of(own).loaded.model.state_dict().items()}
        floor = measure(own, prompts)
        after = running_of(own).loaded.model.state_dict()
    assert all(item.equal(after[name]) for name, item in before.items()), "in place, and back to the bit"
    limit = ROUNDING if dtype == "float32" else FEW * floor.changes["float32"]
    assert {"left padding", "cached decode", "permuted 0", "permuted 1"} <= set(floor.changes)
    assert all(0 <= figure <= limit for figure in floor.changes.values())
    beside = ("permuted", 1) if dtype == "float32" else ("float32", 0)
    assert floor.copies[:2] == (("permuted", 0), beside)
    assert not floor.left_out
    assert not floor.contradictions
    assert floor.mean_kl == pytest.approx(max(floor.changes.values()), rel=0.5)


def random_model(folder, kind, **options):
    """A tiny random model with the tokenizer of the zoo; its distributions are peaked, so that wrong routes show."""
    import transformers
    from torch import manual_seed

    source = Path(locate("tiny-llama"))
    vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512,
        initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0, **options,
    )  # fmt: skip
    manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in source.glob("*token*"):
        shutil.copy(file, folder)
    return Variant(str(folder), dtype="float32", device="cpu")


EXPERTS = {"intermediate_size": 64, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "intermediate_size": 64, "moe_intermediate_size": 16, "num_key_value_heads": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8,
    "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
}  # fmt: skip
DENSE = {"intermediate_size": 64, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("kind", "options"), [("Mixtral", EXPERTS), ("DeepseekV3", LATENT), ("GPT2", {}), ("Llama", DENSE)]
)
def test_a_copy_that_is_another_function_is_left_out_and_said_so(kind, options, prompts, tmp_path):
    variant = random_model(tmp_path / "model", kind, **options)
    with opened(variant) as reference, opened(variant) as candidate:
        floor = Benign(tmp_path).floor(reference, prompts)
        assert ("permuted" in floor.left_out) == (kind != "Llama")
        assert floor.mean_kl < 1e-9, "nothing but rounding has widened it"
        verdict = equivalent(*sides(candidate, reference, tmp_path), prompts, num_prompts=8)
        assert verdict.status is Status.PASS
        assert ("measured without permuted" in verdict.evidence) == (kind != "Llama")
        # Three per cent of one projection that no norm follows.
        named = running_of(candidate).loaded.model.named_parameters()
        next(item for name, item in named if name.endswith(("o_proj.weight", "c_proj.weight"))).data *= 1.03
        assert equivalent(*sides(candidate, reference, tmp_path), prompts, num_prompts=8).status is Status.FAIL


def test_a_copy_with_one_reader_forgotten_is_another_function(engine, prompts, monkeypatch):
    from pytest_llmopt.engines._transformers import permuting

    monkeypatch.setattr(permuting, "READS", permuting.READS - {"q_proj"})
    floor = measure(engine, prompts)
    assert "another function" in floor.left_out["permuted"]
    assert not any(name.startswith("permuted") for name in floor.changes)
    assert floor.mean_kl < 1e-9


def test_a_copy_that_crashes_ends_no_check(engine, prompts, monkeypatch):
    def crash(_model, _change, _seed):
        message = "an index is out of bounds"
        raise IndexError(message)

    monkeypatch.setattr("pytest_llmopt.engines._transformers.varied.varied", crash)
    floor = measure(engine, prompts)
    assert floor.left_out == dict.fromkeys(("eager attention", "permuted"), "IndexError: an index is out of bounds")
    assert floor.copies == ()
    assert 0 < floor.mean_kl < 1e-9


def test_a_reference_whose_decode_path_contradicts_its_score_judges_nothing(engine, prompts, planted):
    planted(decoding_off_by(2.0))
    with pytest.raises(UnsoundReferenceError, match=r"contradicts itself under cached decode: \S+ nats per token"):
        measure(engine, prompts)


def test_in_16_bits_it_shows_as_well(prompts, planted):
    with opened(Variant("tiny-llama", dtype="bfloat16", device="cpu")) as own:
        planted(decoding_off_by(2.0), own)
        with pytest.raises(UnsoundReferenceError, match="contradicts itself under cached decode"):
            measure(own, prompts)


def test_a_reference_that_attends_to_its_padding_contradicts_itself_under_left_padding(engine, prompts):
    def attend(_model, _args, kwargs):
        mask = kwargs.get("attention_mask")
        return _args, kwargs | {"attention_mask": None if mask is None else mask.clone().fill_(1)}

    handle = running_of(engine).loaded.model.register_forward_pre_hook(attend, with_kwargs=True)
    try:
        with pytest.raises(UnsoundReferenceError, match="contradicts itself under left padding"):
            measure(engine, prompts)
    finally:
        handle.remove()


def test_what_only_rounds_otherwise_is_no_contradiction(engine, prompts, planted):
    planted(decoding_off_by(1.0 + 1e-6))
    floor = measure(engine, prompts)
    assert not floor.contradictions
    assert "cached decode" in floor.changes


@pytest.mark.parametrize(
    ("wrong", "outcome"), [(1.0, "passes"), (1.05, "is not to blame"), (3.0, "fails")], ids=["right", "same", "worse"]
)
def test_a_small_contradiction_widens_nothing_and_is_not_blamed_on_the_candidate(
    engine, prompts, planted, tmp_path, wrong, outcome
):
    planted(decoding_off_by(1.05))
    floor = Benign(tmp_path).floor(engine, prompts)
    assert set(floor.contradictions) == {"cached decode"}
    assert ROUNDING < floor.contradictions["cached decode"] < 0.01
    assert floor.mean_kl < 1e-9
    assert not {"cached decode", "left padding"} & set(floor.changes)
    with opened(VARIANT) as candidate:
        planted(decoding_off_by(wrong), candidate)
        two = sides(candidate, engine, tmp_path)
        if outcome == "is not to blame":
            with pytest.raises(UnsoundReferenceError, match="contradicts itself under"):
                equivalent(*two, prompts, num_prompts=8)
        else:
            verdict = equivalent(*two, prompts, num_prompts=8)
            assert verdict.status is (Status.PASS if outcome == "passes" else Status.FAIL)
            assert "measured without cached decode" in verdict.evidence


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reference_that_is_not_finite_judges_nothing(engine, prompts, planted, value):
    planted(lambda _module, _args, _kwargs, output: (output[0] * value, *output[1:]))
    with pytest.raises(UnsoundReferenceError, match="the reference is not finite"):
        measure(engine, prompts)


@pytest.mark.parametrize("count", [1, 2])
def test_texts_that_end_at_once_have_a_floor(engine, prompts, count, monkeypatch):
    """The reference would end every text with its first token."""
    import torch

    def end(_model, _args, output):
        pushed = torch.zeros_like(output.logits)
        pushed[..., min(engine.eos_token_ids)] = 100.0
        output.logits = output.logits + pushed
        return output

    handle = running_of(engine).loaded.model.register_forward_hook(end)
    try:
        given = PromptSet.of([engine.decode(engine.encode(prompts[0].text)[:3])] * count)
        floor = measure(engine, given)
    finally:
        handle.remove()
    assert floor.root_kl.positions >= 2 * 64
    assert floor.lead.positions >= 40
    assert floor.mean_kl < 1e-9


def test_one_prompt_of_one_token_has_a_floor_in_little_room(engine, monkeypatch):
    monkeypatch.setattr(type(engine), "max_length", 48)
    floor = measure(engine, PromptSet.of([[5]]))
    assert floor.root_kl.positions >= 40


def edit(content):
    content["floor"]["mean_kl"] = 1.0


def forget(content):
    del content["digest"]


def age(content):
    content["edition"] = 2


DAMAGE = {
    "edited": lambda file: changed(file, edit),
    "an old edition": lambda file: changed(file, age),
    "without a digest": lambda file: changed(file, forget),
    "cut short": lambda file: file.write_text(file.read_text()[:-40]),
    "empty": lambda file: file.write_text(""),
    "no object": lambda file: file.write_text("[1]"),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
}


def changed(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def kept(engine, prompts, tmp_path_factory):
    """A folder with one kept floor, and the floor."""
    folder = tmp_path_factory.mktemp("floors")
    floor = Benign(folder).floor(engine, prompts)
    return folder, floor


@pytest.fixture
def file(kept, tmp_path):
    (own,) = (kept[0] / "noise-floor").glob("*.json")
    (tmp_path / "noise-floor").mkdir()
    return Path(shutil.copy(own, tmp_path / "noise-floor"))


def test_a_floor_that_is_whole_is_read_back_without_a_word(engine, prompts, kept, file, tmp_path, monkeypatch):
    monkeypatch.setattr(type(engine), "generate", None)
    assert Benign(tmp_path).floor(engine, prompts) == kept[1]


def test_a_floor_of_other_kernels_is_left_alone_and_another_is_measured(
    engine, prompts, kept, file, tmp_path, monkeypatch
):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "of another processor")
    before = file.read_bytes()
    Benign(tmp_path).floor(engine, prompts)
    assert len(list(file.parent.glob("*.json"))) == 2
    assert file.read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_floor_that_is_not_whole_is_measured_again_and_the_file_is_named(
    engine, prompts, kept, file, tmp_path, damage
):
    DAMAGE[damage](file)
    with pytest.warns(StaleCacheWarning, match=file.name):
        floor = Benign(tmp_path).floor(engine, prompts)
    assert floor == kept[1]
    assert Benign(tmp_path).floor(engine, prompts) == floor, "the file is whole again"


def test_a_floor_of_another_reference_under_this_name_is_measured_again(prompts, kept, file, tmp_path):
    with opened(Variant("tiny-qwen", dtype="float32", device="cpu")) as other:
        theirs = Benign(tmp_path / "theirs").floor(other, prompts)
        (own,) = (tmp_path / "theirs/noise-floor").glob("*.json")
        shutil.copy(file, own)
        with pytest.warns(StaleCacheWarning, match="belongs to another reference"):
            assert Benign(tmp_path / "theirs").floor(other, prompts) == theirs


def test_weights_that_were_replaced_at_equal_size_and_time_are_noticed(prompts, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(locate("tiny-llama"), tmp_path / "model"))
    weights = folder / "model.safetensors"
    variant = Variant(str(folder), dtype="float32", device="cpu")
    with opened(variant) as before:
        floor = Benign(tmp_path).floor(before, prompts)
        assert Benign(tmp_path).floor(before, prompts) == floor
    stat = weights.stat()
    tensors = load_file(weights)
    name = next(name for name in tensors if "down_proj" in name)
    save_file(tensors | {name: tensors[name] * 1.1}, weights, metadata={"format": "pt"})
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights.stat().st_size == stat.st_size
    with opened(variant) as after, pytest.warns(StaleCacheWarning, match="other weights: log-probabilities have moved"):
        Benign(tmp_path).floor(after, prompts)


def test_float32_in_place_is_the_same_weights_in_float32(prompts):
    with opened(Variant("tiny-gemma", dtype="bfloat16", device="cpu")) as narrow:
        given = [item.continuation for item in narrow.generate([narrow.encode("def f(")], sampling(8))]
        before = narrow.score(given)
        assert narrow.varied("float32").dtype == "float32"
        wide = narrow.varied("float32").score(given)
        again = narrow.varied("float32").varied("float32").score(given)
        assert narrow.dtype == "bfloat16"
        after = narrow.score(given)
    with opened(Variant("tiny-gemma", dtype="float32", device="cpu")) as real:
        expected = real.score(given)
    assert np.array_equal(wide[0].top_logprobs, expected[0].top_logprobs)
    assert np.array_equal(again[0].top_logprobs, expected[0].top_logprobs)
    assert np.array_equal(before[0].top_logprobs, after[0].top_logprobs)
    assert not np.array_equal(before[0].top_logprobs, wide[0].top_logprobs)


def sampling(tokens):
    from pytest_llmopt.core.sampling import SamplingParams

    return SamplingParams(max_new_tokens=tokens)


@pytest.mark.parametrize("change", ["permuted", "eager attention", "float32"])
def test_every_change_is_undone_to_the_bit_also_after_an_exception(change):
    with opened(Variant("tiny-qwen", dtype="bfloat16", device="cpu")) as own:
        model = running_of(own).loaded.model
        before = {name: (item.data_ptr(), item.clone()) for name, item in model.state_dict().items()}
        attention = model.config._attn_implementation

        def fail(*_):
            message = "in the middle"
            raise RuntimeError(message)

        handle = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            own.varied(change).generate([own.encode("def f(")], sampling(4))
        handle.remove()
        after = model.state_dict()
        assert all(item.equal(after[name]) for name, (_, item) in before.items())
        assert all(place == after[name].data_ptr() for name, (place, _) in before.items())
        assert model.config._attn_implementation == attention
        assert own.dtype == "bfloat16"
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


@pytest.mark.any_processor
def test_an_architecture_that_casts_its_activations_has_no_float32(prompts):
    with opened(Variant("tiny-llama", dtype="bfloat16", device="cpu")) as own:
        layer = running_of(own).loaded.model.model.layers[0].mlp
        layer.register_forward_pre_hook(lambda _module, args: (args[0].bfloat16(),))
        given = [item.continuation for item in own.generate([own.encode("def f(")], sampling(4))]
        with pytest.raises(RequirementMissingError, match="is given 16-bit activations"):
            own.varied("float32").score(given)
        floor = measure(own, prompts)
    assert "16-bit activations" in floor.left_out["float32"]
    assert "permuted 0" in floor.changes


def test_a_failure_in_16_bits_stands_whatever_its_repetition_does(prompts, planted, tmp_path, monkeypatch):
    variant = Variant("tiny-llama", dtype="bfloat16", device="cpu")
    with opened(variant) as reference, opened(variant) as candidate:
        planted(decoding_off_by(3.0), candidate)
        verdict = equivalent(*sides(candidate, reference, tmp_path), prompts, num_prompts=8)
        assert verdict.status is Status.FAIL
        assert verdict.diagnosis[0].startswith("in float32 too")

        def crash(_model, _change, _seed):
            raise MemoryError

        monkeypatch.setattr("pytest_llmopt.engines._transformers.varied.varied", crash)
        verdict = equivalent(*sides(candidate, reference, tmp_path), prompts, num_prompts=8)
        assert verdict.status is Status.FAIL
        assert verdict.diagnosis[0] == "could not be repeated in float32: MemoryError: "
