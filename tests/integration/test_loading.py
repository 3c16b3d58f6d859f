"""Loading: once per variant, only what is allowed, and a failure stops its own tests only."""

import json
import shutil

import pytest
from sides import open_side

from pytest_llmopt.core.loading import locate


def test_each_variant_is_loaded_once_and_tests_are_grouped(project):
    project.makepyfile("""
        from pytest_llmopt import llmopt
        from pytest_llmopt.core.engine import bare

        @llmopt.static_cache()
        def test_a(candidate, reference): pass
        def test_plain(candidate, reference): assert bare(candidate.engine) is bare(reference.engine)
        @llmopt.prompt_lookup(3)
        def test_b(candidate, reference): pass
        def test_unrelated(): pass
        @llmopt.static_cache()
        def test_c(candidate, reference): pass
        def test_loads(request):
            from pytest_llmopt.session import SESSION
            loads = request.config.stash[SESSION].loader.loads
            assert len(loads) == len(set(loads)) == 3
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama", "-v")
    result.assert_outcomes(passed=6)
    order = [line.split("::")[1].split(" ")[0] for line in result.outlines if "::" in line and "PASSED" in line]
    assert order == [
        *("test_a[tiny-llama]", "test_c[tiny-llama]", "test_plain[tiny-llama]"),
        *("test_unrelated", "test_b[tiny-llama]", "test_loads"),
    ]


def test_a_model_of_a_marker_that_does_not_exist_fails_its_tests_and_the_rest_goes_on(project, records):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        pytestmark = llmopt.model("nobody/nothing")

        def test_first(candidate): pass
        def test_second(candidate): pass
        def test_other(): pass
    """)
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1, errors=2)
    text = result.stdout.str()
    assert "candidate: the model 'nobody/nothing' is not on this machine" in text
    assert "--llmopt-download" in text
    assert {record["status"] for record in records()} == {"ERROR"}


def test_weights_that_are_not_safetensors_load_only_on_request(project):
    import torch
    from safetensors.torch import load_file

    folder = project.path / "pickled"
    shutil.copytree(locate("tiny-llama"), folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    project.makepyfile("def test_it(candidate): assert candidate.vocab_size")
    refused = project.runpytest_inprocess("--llmopt-model", str(folder))
    assert refused.ret in {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED}
    text = "\n".join([*refused.outlines, *refused.errlines])
    for piece in ("can run code", "convert them to safetensors", "--llmopt-unsafe-weights"):
        assert piece in text
    project.runpytest_inprocess("--llmopt-model", str(folder), "--llmopt-unsafe-weights").assert_outcomes(passed=1)


def test_code_of_a_checkpoint_runs_only_on_request(project):
    folder = project.path / "custom"
    shutil.copytree(locate("tiny-llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("print('code of the checkpoint ran')")
    project.makepyfile("def test_it(candidate): pass")
    result = project.runpytest_inprocess("--llmopt-model", str(folder))
    result.assert_outcomes(errors=1)
    assert "--llmopt-trust-remote-code" in result.stdout.str()
    assert "code of the checkpoint ran" not in result.stdout.str()


def test_a_draft_with_another_vocabulary_is_refused(project):
    project.makepyfile(f"""
        from pytest_llmopt import llmopt

        @llmopt.assisted(draft={other_vocabulary(project)!r})
        def test_it(candidate): pass
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(errors=1)
    assert "has another vocabulary" in result.stdout.str()


def other_vocabulary(project):
    """The draft of tiny-llama with two entries of its vocabulary exchanged."""
    folder = project.path / "other-draft"
    shutil.copytree(locate("tiny-llama-draft"), folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return str(folder)


def test_speculation_without_a_draft_skips_and_says_how_to_name_one(project):
    folder = project.path / "alone"
    shutil.copytree(locate("tiny-llama"), folder)
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.assisted()
        def test_it(candidate): pass
    """)
    result = project.runpytest_inprocess("--llmopt-model", str(folder), "-rs")
    result.assert_outcomes(skipped=1)
    assert "--llmopt-draft" in result.stdout.str()
    required = project.runpytest_inprocess("--llmopt-model", str(folder), "--llmopt-require", "assisted")
    required.assert_outcomes(errors=1)


def test_a_request_longer_than_the_static_cache_is_refused_with_both_lengths(project):
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.static_cache(max_cache_len=16)
        def test_it(candidate, reference, prompts):
            llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=32)
    """)
    result = project.runpytest_inprocess("--llmopt-model", "tiny-llama")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*has room for 16 in all*max_cache_len*"])


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-qwen", "tiny-gemma"])
def test_decoding_and_teacher_forcing_agree_on_every_family(model):
    """The seam that every verdict stands on: log-probabilities of the decode path equal those of one forward pass."""
    import numpy as np

    from pytest_llmopt import SamplingParams
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.core.variant import Variant

    engine = open_side(Variant(model), LoadPolicy(threads=1))
    prompts = [engine.encode(text) for text in ("import", "The quick brown fox jumps over", "x = [1, 2, 3, 4")]
    for sampling in (SamplingParams(max_new_tokens=40), SamplingParams(max_new_tokens=40, temperature=0.8, top_p=0.9)):
        generations = engine.generate(prompts, sampling)
        assert [item.prompt_ids for item in generations] == prompts
        scored = engine.score([item.continuation for item in generations])
        for own, again in zip(generations, scored, strict=True):
            assert len(own.logprobs) == 40 or own.finish_reason == "eos"
            assert np.abs(own.logprobs.token_logprobs - again.token_logprobs).max() < 1e-4
    assert engine.score([generations[0].continuation])[0].k == engine.vocab_size
