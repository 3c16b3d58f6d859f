"""Worth it: memory of the live weights, and speed that has not collapsed."""

from pytest_llmopt import llmopt


@llmopt.variants(
    {
        "bitsandbytes_nf4": [llmopt.quantized("bitsandbytes"), llmopt.budget(weight_saving=2.0)],
        "static_cache": [llmopt.static_cache(), llmopt.budget(decode_speedup=0.3)],
    }
)
def test_budget(candidate, reference, benchmark):
    """The optimization saves what it is there for."""
    llmopt.assert_within_budget(candidate, reference, benchmark, rounds=6)
