"""The arguments of `generate`: of the request, of the optimizations, and what happens where both set one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.sampling import SamplingParams

REQUEST = "a check asks for it with every request (SamplingParams), of both sides alike"
EVIDENCE = "the engine needs it to see the log-probabilities that the decode path acted on"
INPUTS = "the engine makes it from the prompts"
ONE_EACH = "every prompt gets one text, chosen token by token"
OURS = {
    **dict.fromkeys(("inputs", "input_ids", "inputs_embeds", "attention_mask", "position_ids"), INPUTS),
    **dict.fromkeys(("max_new_tokens", "max_length", "do_sample", "temperature", "top_k", "top_p", "min_p"), REQUEST),
    "eos_token_id": f"{REQUEST}, and the checkpoint says which tokens end a text",
    "generation_config": "it would set all of them at once: set single arguments",
    **dict.fromkeys(("streamer", "synced_gpus", "tokenizer"), "the engine sets up the call"),
}
"""Arguments of `generate` that an optimization cannot set, and why."""
FIXED = {
    "return_dict_in_generate": (True, EVIDENCE),
    "output_logits": (True, EVIDENCE),
    "num_beams": (1, ONE_EACH),
    "num_return_sequences": (1, ONE_EACH),
}
"""Arguments that it may set, to this value only."""
LISTS = ("logits_processor", "stopping_criteria")
"""Theirs come first, ours behind them."""
ENDS = frozenset({"stop_strings", "max_time", "stopping_criteria"})
"""What an optimization may set to make a text end."""


def refuse(given: Mapping[str, Any]) -> None:
    """Refuse arguments of optimizations that are not theirs to set.

    Raises:
        OptionError: naming the argument, its value, why, and what may be set instead.
    """
    for name, value in given.items():
        allowed, why = FIXED.get(name, (None, OURS.get(name)))
        if why is not None and (allowed is None or value != allowed):
            instead = "leave it out" if allowed is None else f"leave it out, or at {allowed!r}"
            msg = f"an optimization sets the generate argument {name!r} to {value!r}, but {why}; {instead}"
            raise OptionError(msg)


def merged(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], request: Mapping[str, Any], *, forced: bool
) -> dict[str, Any]:
    """The arguments of one call.

    Args:
        ours: what the engine needs, `LISTS` as lists; what it needs for no other reason than a default gives way.
        theirs: what the optimizations set; refused before where they cannot.
        request: what this one call is about, which counts more than either.
        forced: the tokens are given, so nothing may end the text but its length; what would is left out.
    """
    theirs = {name: value for name, value in theirs.items() if not (forced and name in ENDS)}
    lists = {name: [*(theirs.get(name) or ()), *ours.get(name, ())] for name in LISTS}
    together = {**ours, **theirs, **request} | {name: value or None for name, value in lists.items()}
    if together.get("min_new_tokens"):
        # A request may be for less than what the optimizations set as the least for any.
        together["min_new_tokens"] = min(together["min_new_tokens"], together["max_new_tokens"])
    return together


def of_request(sampling: SamplingParams, eos_token_ids: frozenset[int]) -> dict[str, Any]:
    """How the next token is chosen and when a text ends, in the library's words."""
    arguments: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": not sampling.greedy}
    if sampling.ignore_eos:
        arguments["min_new_tokens"] = sampling.max_new_tokens
    if sampling.stop_token_ids:
        arguments["eos_token_id"] = sorted(eos_token_ids.union(sampling.stop_token_ids))
    if not sampling.greedy:
        # Logits that are not finite end in an error of the sampler otherwise; the evidence has them as they are.
        arguments["remove_invalid_values"] = True
        arguments |= {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
        arguments |= {"min_p": sampling.min_p} if sampling.min_p else {}
    return arguments


CHOOSING = frozenset(
    {
        "logits_processor",
        "repetition_penalty",
        "encoder_repetition_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "bad_words_ids",
        "suppress_tokens",
        "begin_suppress_tokens",
        "sequence_bias",
        "guidance_scale",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "min_length",
        "min_new_tokens",
        "prefix_allowed_tokens_fn",
        "renormalize_logits",
        "watermarking_config",
    }
)
"""Arguments that change which token is the best, beside the model."""


def choosing(theirs: Mapping[str, Any]) -> bool:
    """Whether something beside the model decides which token is the best."""
    return any(theirs.get(name) is not None for name in CHOOSING)
