"""One variant of each further quantization method that runs on a CPU; the suite `accuracy` has the others.

GPTQ and AWQ quantize first, which takes seconds on the zoo and much longer on a real model: only where it is named.
"""

from pytest_llmopt import llmopt

METHODS = {
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
def test_method(candidate, reference, prompts):
    """The weights are packed as the method promises, and the distribution of the next token is kept."""
    llmopt.assert_gate(candidate, reference, prompts, checks=("optimized", "accurate"))
