"""Close to the original, at the price that each method states, and really packed."""

from pytest_llmopt import llmopt

METHODS = {
    "bitsandbytes_int8": llmopt.quantized("bitsandbytes", bits=8),
    "bitsandbytes_nf4": llmopt.quantized("bitsandbytes", bits=4),
    "torchao_int8_weight_only": llmopt.quantized("torchao", scheme="int8_weight_only"),
}
RELATIONS = ("repeat", "batch_mates", "prompt_length", "later_token", "load_twice")
"""Without `save_reload`: bitsandbytes 0.50 transposes the scales of nf4 when it saves on a CPU with AVX-512 BF16."""


@llmopt.variants(METHODS)
def test_quantized_weights(candidate, reference, prompts):
    """The weights are packed as the method promises, and the distribution of the next token is kept."""
    llmopt.assert_gate(candidate, reference, prompts, checks=("optimized", "accurate"))


@llmopt.quantized("bitsandbytes")
def test_invariance_of_quantized_weights(candidate, prompts):
    """Every load is quantized alike, and kernels for other shapes give the same."""
    llmopt.assert_invariant(candidate, prompts, relations=RELATIONS)
