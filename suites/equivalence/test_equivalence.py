"""The same function by other means: every optimization gets the checks that belong to what it promises.

That is equality with the plain model, proof that it is in effect, and what must not matter; where tokens are drawn by
other means, their distribution and their seeds as well.
"""

from pytest_llmopt import llmopt


@llmopt.variants(
    {
        "static_cache": llmopt.static_cache(),
        "static_cache_reused": llmopt.static_cache(max_cache_len=704, reuse=True),
    }
)
def test_static_cache(candidate, reference, prompts):
    """A cache of fixed length changes nothing."""
    llmopt.assert_gate(candidate, reference, prompts)


@llmopt.static_cache(compile=True, max_cache_len=384, reuse=True)
def test_static_cache_compiled(candidate, reference, prompts):
    """A compiled decode step changes nothing; every further shape that a relation tries would be compiled anew."""
    llmopt.assert_gate(candidate, reference, prompts, checks=("equivalent", "optimized"))


@llmopt.assisted()
def test_assisted(candidate, reference, prompts):
    """Verified drafts change the speed, not the text, and not the distribution of what is sampled."""
    llmopt.assert_gate(candidate, reference, prompts)


@llmopt.prompt_lookup(3)
def test_prompt_lookup(candidate, reference, prompts):
    """Looked-up drafts change the speed, not the text, and not the distribution of what is sampled."""
    llmopt.assert_gate(candidate, reference, prompts)


@llmopt.against(llmopt.attention("eager"))
@llmopt.variants(
    {
        "sdpa": llmopt.attention("sdpa"),
        "flash_attention_2": [llmopt.attention("flash_attention_2"), llmopt.gpu(capability=8.0)],
    }
)
def test_attention(candidate, reference, prompts):
    """Another attention kernel computes what eager attention computes."""
    llmopt.assert_gate(candidate, reference, prompts, checks=("equivalent", "optimized"))
