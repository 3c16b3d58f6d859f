"""Close to the original, at the price that each method states: one variant of every method that a CPU can run.

The suite `quantization` asks more, of more variants.
"""

from pytest_llmopt import llmopt

METHODS = {
    "bitsandbytes_int8": llmopt.quantized("bitsandbytes", bits=8),
    "bitsandbytes_nf4": llmopt.quantized("bitsandbytes", bits=4),
    "torchao_int8_weight_only": llmopt.quantized("torchao", scheme="int8_weight_only"),
    "hqq_4": llmopt.quantized("hqq", bits=4),
    "quanto_int8": llmopt.quantized("quanto", weights="int8"),
    "gptq": llmopt.quantized("gptq"),
    "awq": llmopt.quantized("awq"),
    "compressed_tensors_w4a16": llmopt.quantized("compressed_tensors", scheme="W4A16"),
    "gguf_q8_0": llmopt.quantized("gguf", quant_type="Q8_0"),
    "config": llmopt.quantized(config={"quant_method": "quanto", "weights": "float8"}),
    "quantized_cache": llmopt.quantized_cache("hqq", nbits=4),
}


@llmopt.variants(METHODS)
def test_quantized_weights(candidate, reference, prompts):
    """The distribution of the next token is kept."""
    llmopt.assert_accurate(candidate, reference, prompts)


@llmopt.variants(METHODS)
def test_quantization_in_effect(candidate, reference, prompts):
    """The weights are packed as the method promises, and it shows."""
    llmopt.assert_optimized(candidate, reference, prompts)
