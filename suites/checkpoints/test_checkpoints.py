"""What is brought along beside a model: a quantized checkpoint, `MODEL-gptq`, and an adapter, `MODEL-lora`.

The zoo has both. Copy this for your own names; it runs only where it is named.
"""

from pytest_llmopt import llmopt


@llmopt.quantized(checkpoint="{model}-gptq")
def test_checkpoint(candidate, reference, prompts):
    """The distribution of the next token is kept."""
    llmopt.assert_accurate(candidate, reference, prompts)


@llmopt.quantized(checkpoint="{model}-gptq")
def test_checkpoint_in_effect(candidate, reference, prompts):
    """The weights are packed as the checkpoint says."""
    llmopt.assert_optimized(candidate, reference, prompts)


@llmopt.quantized("bitsandbytes")
@llmopt.lora("{model}-lora", merged=True, dequantize=True)
@llmopt.against(llmopt.quantized("bitsandbytes"), llmopt.lora("{model}-lora", dequantize=True))
def test_qlora_merged(candidate, reference, prompts):
    """An adapter over a 4-bit base is the same function once it is merged into the base's full width."""
    llmopt.assert_equivalent(candidate, reference, prompts)


@llmopt.quantized("bitsandbytes")
@llmopt.lora("{model}-lora")
@llmopt.against(llmopt.lora("{model}-lora"))
def test_qlora_accurate(candidate, reference, prompts):
    """The 4-bit base costs the adapted model no more than it may."""
    llmopt.assert_accurate(candidate, reference, prompts)


@llmopt.quantized("bitsandbytes")
@llmopt.lora("{model}-lora")
@llmopt.against(llmopt.lora("{model}-lora"))
def test_qlora_in_effect(candidate, reference, prompts):
    """The adapter runs beside packed weights."""
    llmopt.assert_optimized(candidate, reference, prompts)
