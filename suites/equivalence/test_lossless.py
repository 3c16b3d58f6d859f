"""The same distribution by other means: what sampled speculation draws must be what the plain model draws."""

from pytest_llmopt import llmopt


@llmopt.assisted()
def test_assisted_sampling(candidate, reference, prompts):
    """Verified drafts change the speed, not the distribution."""
    llmopt.assert_lossless(candidate, reference, prompts, temperature=0.7, max_tokens=768)


@llmopt.prompt_lookup(3)
def test_prompt_lookup_sampling(candidate, reference, prompts):
    """Looked-up drafts change the speed, not the distribution."""
    llmopt.assert_lossless(candidate, reference, prompts, temperature=0.7, top_p=0.9, max_tokens=512)


@llmopt.variants({"assisted": llmopt.assisted(), "prompt_lookup": llmopt.prompt_lookup(3)})
def test_seed(candidate, prompts):
    """The same seed gives the same text again, another one another."""
    llmopt.assert_seeded(candidate, None, prompts)
