"""Too good is a failure too: every optimization must really be in effect."""

from pytest_llmopt import llmopt


@llmopt.variants(
    {
        "static_cache_reused": llmopt.static_cache(max_cache_len=704, reuse=True),
        "static_cache_compiled": llmopt.static_cache(compile=True, max_cache_len=384, reuse=True),
        "assisted": llmopt.assisted(),
        "prompt_lookup": llmopt.prompt_lookup(3),
    }
)
def test_decoding_in_effect(candidate, reference, prompts):
    """The cache is static, the decode step compiled, the draft consulted."""
    llmopt.assert_optimized(candidate, reference, prompts)


@llmopt.against(llmopt.attention("eager"))
@llmopt.attention("sdpa")
def test_attention_in_effect(candidate, reference, prompts):
    """Every layer calls the kernel that was asked for."""
    llmopt.assert_optimized(candidate, reference, prompts)
