"""Close to the original, at the price that each method states."""

from pytest_llmopt import llmopt

METHODS = {
    "bitsandbytes_int8": llmopt.quantized("bitsandbytes", bits=8),
    "bitsandbytes_nf4": llmopt.quantized("bitsandbytes", bits=4),
    "torchao_int8_weight_only": llmopt.quantized("torchao", scheme="int8_weight_only"),
}


@llmopt.variants(METHODS)
def test_quantized_weights(candidate, reference, prompts):
    """The distribution of the next token is kept."""
    llmopt.assert_accurate(candidate, reference, prompts)


@llmopt.variants(METHODS)
def test_quantization_in_effect(candidate, reference, prompts):
    """The weights are packed as the method promises, and it shows."""
    llmopt.assert_optimized(candidate, reference, prompts)
