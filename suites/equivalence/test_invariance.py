"""What must not matter does not matter: state, batches, padding, lengths, causality. No reference is needed."""

from pytest_llmopt import llmopt


@llmopt.variants(
    {
        "static_cache_reused": llmopt.static_cache(max_cache_len=704, reuse=True),
        "assisted": llmopt.assisted(),
    }
)
def test_invariance(candidate, prompts):
    """Each relation changes one thing that must not matter."""
    llmopt.assert_invariant(candidate, None, prompts)


QUANTIZED = ("repeat", "batch_mates", "prompt_length", "later_token", "load_twice")
"""Without `save_reload`: bitsandbytes 0.50 transposes the scales of nf4 when it saves on a CPU with AVX-512 BF16."""


@llmopt.quantized("bitsandbytes")
def test_invariance_of_quantized_weights(candidate, prompts):
    """Every load is quantized alike, and kernels for other shapes give the same."""
    llmopt.assert_invariant(candidate, None, prompts, relations=QUANTIZED)
