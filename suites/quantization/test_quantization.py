"""Every quantization method that runs here, each with the three questions: accurate, in effect, consistent.

Made for the zoo: groups of 128 divide its columns, and AutoRound's ten steps take seconds and not minutes. A method
whose library or hardware is missing skips with the reason.
"""

from pytest_llmopt import llmopt

METHODS = {
    "bitsandbytes_int8": llmopt.quantized("bitsandbytes", bits=8),
    "bitsandbytes_nf4": llmopt.quantized("bitsandbytes", bits=4),
    "bitsandbytes_fp4": llmopt.quantized("bitsandbytes", bits=4, quant_type="fp4"),
    "torchao_int8wo": llmopt.quantized("torchao", scheme="int8_weight_only"),
    "torchao_int8da": llmopt.quantized("torchao", scheme="int8_dynamic_activation"),
    "torchao_int4": llmopt.quantized("torchao", scheme="int4_weight_only"),
    "torchao_intx4": llmopt.quantized("torchao", scheme="intx_weight_only", bits=4),
    "torchao_float8wo": llmopt.quantized("torchao", scheme="float8_weight_only"),
    "hqq_8": llmopt.quantized("hqq", bits=8),
    "hqq_4": llmopt.quantized("hqq", bits=4),
    "hqq_3": llmopt.quantized("hqq", bits=3),
    "hqq_2": llmopt.quantized("hqq", bits=2),
    "quanto_int8": llmopt.quantized("quanto", weights="int8"),
    "quanto_float8": llmopt.quantized("quanto", weights="float8"),
    "quanto_int4": llmopt.quantized("quanto", weights="int4"),
    "quanto_int2": llmopt.quantized("quanto", weights="int2"),
    "gptq": llmopt.quantized("gptq"),
    "awq": llmopt.quantized("awq"),
    "auto_round": llmopt.quantized("auto_round", iters=10),
    "compressed_tensors_w8a8": llmopt.quantized("compressed_tensors", scheme="W8A8"),
    "compressed_tensors_w8a16": llmopt.quantized("compressed_tensors", scheme="W8A16"),
    "compressed_tensors_w4a16": llmopt.quantized("compressed_tensors", scheme="W4A16"),
    "compressed_tensors_fp8": llmopt.quantized("compressed_tensors", scheme="FP8_DYNAMIC"),
    "gguf_q8_0": llmopt.quantized("gguf", quant_type="Q8_0"),
    "gguf_q4_0": llmopt.quantized("gguf", quant_type="Q4_0"),
    "quantized_cache": llmopt.quantized_cache("quanto", nbits=4),
}
WEIGHTS = {name: mark for name, mark in METHODS.items() if name != "quantized_cache"}
"""A cache is rounded in groups that run across padding, so that batch mates move what it gives."""
RELATIONS = ("repeat", "batch_mates", "load_twice", "save_reload")


@llmopt.variants(METHODS)
def test_accurate(candidate, reference, prompts):
    """The distribution of the next token is kept, at the price that the method states."""
    llmopt.assert_accurate(candidate, reference, prompts)


@llmopt.variants(METHODS)
def test_in_effect(candidate, reference, prompts):
    """The weights are packed as the method promises, and it shows."""
    llmopt.assert_optimized(candidate, reference, prompts)


@llmopt.variants(WEIGHTS)
def test_consistent(candidate, prompts):
    """A call, a batch, a load and a saved copy all give the same."""
    llmopt.assert_invariant(candidate, prompts, relations=RELATIONS)
