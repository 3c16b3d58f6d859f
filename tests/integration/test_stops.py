"""Where a generation ends: stop tokens, drafted blocks, logits that are not finite, and the seed of a load."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from planted import Planted
from sides import open_side, running_of

from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.variant import Applied, Variant

TEXTS = ("def main(argv):\n    import os\n    return", "The value of the expression is", "one, two, three, four,")
TOKENS = 24


def opened(*optimizations, seed=0):
    registry = Registry("optimizations", "optimization")
    applied = [
        Applied(name, registry.load(name)(**options) if isinstance(options, dict) else options)
        for name, options in optimizations
    ]
    variant = Variant("tiny-llama", tuple(applied), dtype="float32", device="cpu")
    return open_side(variant, LoadPolicy(threads=1, seed=seed))


@pytest.mark.parametrize(
    "optimizations",
    [(), (("decoding.assisted", {}),), (("decoding.prompt_lookup", {}),), (("decoding.static_cache", {}),)],
)
def test_a_text_ends_exactly_at_the_first_stop_token(optimizations):
    engine = opened(*optimizations)
    prompts = [engine.encode(text) for text in TEXTS]
    whole = [item.token_ids for item in engine.generate(prompts, SamplingParams(TOKENS))]
    stops = (whole[0][8], whole[1][14])
    stopped = engine.generate(prompts, SamplingParams(TOKENS, stop_token_ids=stops))
    for before, after in zip(whole, stopped, strict=True):
        places = [place for place, token in enumerate(before) if token in stops]
        assert after.token_ids == before[: places[0] + 1 if places else TOKENS]
        assert after.finish_reason == ("stop" if places else "length")
        assert after.overrun == 0
    assert len({len(item.token_ids) for item in stopped}) > 1


@dataclass(frozen=True)
class EndsAreNotSeen(Planted):
    """The loop of speculation looks for an end only where a block ends."""

    def change(self, model):
        criteria = model._get_stopping_criteria

        def changed(generation_config, *args, **kwargs):
            given = criteria(generation_config, *args, **kwargs)
            generation_config._eos_token_tensor = None
            return given

        model._get_stopping_criteria = changed


def test_an_end_inside_a_drafted_block_that_is_overlooked_fails_and_says_where():
    assisted = ("decoding.assisted", {})
    candidate = opened(assisted, ("planted.ends", EndsAreNotSeen()))
    options = {"num_prompts": 3, "max_new_tokens": TOKENS, "forced_tokens": 0}
    verdict = Registry("checks", "check").load("equivalent")(candidate, opened(), TEXTS, **options)
    assert verdict.status == "FAIL"
    assert verdict.metrics["past_the_end"].estimate.point > 0
    assert verdict.diagnosis[0].startswith("prompt 000 (with stops) ended at its token ")
    sound = Registry("checks", "check").load("equivalent")(opened(assisted), opened(), TEXTS, **options)
    assert sound.metrics["past_the_end"].estimate.point == 0
    assert sound.metrics["cut_short"].estimate.point == 0


@dataclass(frozen=True)
class RandomNorm(Planted):
    """A weight that is missing in the checkpoint is drawn at random."""

    def change(self, model):
        import torch

        model.model.norm.weight.data += 0.05 * torch.randn(model.model.norm.weight.shape)


def test_what_a_load_draws_depends_on_its_seed_alone_and_moves_no_random_state():
    import torch

    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    engines = [opened(("planted.random", RandomNorm()), seed=seed) for seed in (0, 0, 1)]
    assert torch.rand(1).item() == expected
    first, same, other = (running_of(engine).loaded.model.model.norm.weight for engine in engines)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_logits_that_are_not_finite_fail_with_a_verdict_and_raise_nothing(project, records):
    shutil.copy(Path(__file__).parent / "planted.py", project.path / "conftest.py")
    project.makepyfile("""
        from pytest_llmopt import llmopt

        @llmopt.optimization("planted.not_a_number")
        def test_it(candidate, reference, prompts):
            limits = {"kl_divergence": 0.1, "top1_agreement": 0.9, "perplexity_ratio": 1.1}
            llmopt.assert_accurate(candidate, reference, prompts, **limits)
    """)
    project.runpytest_inprocess("--llmopt-model", "tiny-llama").assert_outcomes(failed=1)
    (record,) = records()
    assert record["status"] == "FAIL"
    assert record["metrics"]["nonfinite"]["point"] > 0
