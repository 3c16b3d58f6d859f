"""The same function by other arithmetic: what each optimization decodes must be what the plain model decodes."""

from pytest_llmopt import llmopt


@llmopt.variants(
    {
        "static_cache": llmopt.static_cache(),
        "static_cache_reused": llmopt.static_cache(max_cache_len=704, reuse=True),
        "static_cache_compiled": llmopt.static_cache(compile=True, max_cache_len=384, reuse=True),
    }
)
def test_static_cache(candidate, reference, prompts):
    """A cache of fixed length changes nothing."""
    llmopt.assert_equivalent(candidate, reference, prompts)


@llmopt.assisted()
def test_assisted(candidate, reference, prompts):
    """Drafts change the speed, not the output."""
    llmopt.assert_equivalent(candidate, reference, prompts)


@llmopt.prompt_lookup(3)
def test_prompt_lookup(candidate, reference, prompts):
    """Looked-up drafts change the speed, not the output."""
    llmopt.assert_equivalent(candidate, reference, prompts)


@llmopt.against(llmopt.attention("eager"))
@llmopt.variants(
    {
        "sdpa": llmopt.attention("sdpa"),
        "flash_attention_2": [llmopt.attention("flash_attention_2"), llmopt.gpu(capability=8.0)],
    }
)
def test_attention(candidate, reference, prompts):
    """Another attention kernel computes what eager attention computes."""
    llmopt.assert_equivalent(candidate, reference, prompts)
