"""Close to the original, at the price that each method states."""

from pytest_llmopt import llmopt


@llmopt.variants(
    {
        "bitsandbytes_int8": llmopt.quantized("bitsandbytes", bits=8),
        "bitsandbytes_nf4": llmopt.quantized("bitsandbytes", bits=4),
        "torchao_int8_weight_only": llmopt.quantized("torchao", scheme="int8_weight_only"),
    }
)
def test_quantized_weights(candidate, reference, prompts):
    """Quantized weights keep the distribution of the next token."""
    llmopt.assert_accurate(candidate, reference, prompts)
