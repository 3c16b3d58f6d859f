"""Options of every optimization, limits and sampling settings: of their type and in their range, or refused by name."""

import math

import pytest

from pytest_llmopt.checks._limits import Limits
from pytest_llmopt.core.budget import Budget
from pytest_llmopt.core.optimization import AccuracyLimits, build, one_of, options_of
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.sampling import SamplingParams
from pytest_llmopt.core.values import fit_fields, hints_of_class

NAN, INF, HUGE = math.nan, math.inf, 10**190
WHOLE, NUMBER, TEXT, TRUTH = "whole number", "finite number", "a text", "True or False"

OPTIONS = {
    "cache as text": ("decoding.static_cache", {"max_cache_len": "512"}, [WHOLE, "'512'", "without quotes"]),
    "cache of nothing": ("decoding.static_cache", {"max_cache_len": 0}, ["max_cache_len=0", "from 1"]),
    "cache below": ("decoding.static_cache", {"max_cache_len": -5}, ["max_cache_len=-5", "from 1"]),
    "cache in halves": ("decoding.static_cache", {"max_cache_len": 2.5}, [WHOLE]),
    "cache in floats": ("decoding.static_cache", {"max_cache_len": 512.0}, ["512.0", WHOLE]),
    "cache of truth": ("decoding.static_cache", {"max_cache_len": True}, ["max_cache_len=True", WHOLE]),
    "cache of NaN": ("decoding.static_cache", {"max_cache_len": NAN}, ["nan", WHOLE]),
    "cache without end": ("decoding.static_cache", {"max_cache_len": HUGE}, ["...", "at most 2147483647"]),
    "cache list": ("decoding.static_cache", {"max_cache_len": [512]}, ["[512]", WHOLE, "None"]),
    "compile as text": ("decoding.static_cache", {"compile": "yes"}, ["compile='yes'", TRUTH]),
    "compile as number": ("decoding.static_cache", {"compile": 1}, ["compile=1", TRUTH]),
    "reuse as None": ("decoding.static_cache", {"reuse": None}, ["reuse=None", TRUTH]),
    "mode": ("decoding.static_cache", {"mode": "fastest"}, ["mode='fastest'", "'reduce-overhead'"]),
    "mode as number": ("decoding.compiled", {"mode": 3}, ["mode=3", TEXT]),
    "dynamic": ("decoding.compiled", {"dynamic": "auto"}, ["dynamic='auto'", TRUTH, "None"]),
    "no backend": ("decoding.compiled", {"backend": ""}, ["backend=''", "not empty"]),
    "draft number": ("decoding.assisted", {"draft": 3}, ["draft=3", TEXT]),
    "draft empty": ("decoding.assisted", {"draft": ""}, ["draft=''", "not empty", "None"]),
    "draft blank": ("decoding.assisted", {"draft": "  "}, ["not empty"]),
    "draft NUL": ("decoding.assisted", {"draft": "a\0b"}, ["control character"]),
    "draft surrogate": ("decoding.assisted", {"draft": "\ud800"}, ["control character"]),
    "draft list": ("decoding.assisted", {"draft": ["a"]}, ["draft=['a']", TEXT]),
    "draft novel": ("decoding.assisted", {"draft": "x" * 9_000}, ["...", "at most 4,096 characters"]),
    "no drafts": ("decoding.assisted", {"num_draft_tokens": 0}, ["num_draft_tokens=0", "from 1"]),
    "drafts as float": ("decoding.assisted", {"num_draft_tokens": 5.0}, ["5.0", WHOLE]),
    "certain": ("decoding.assisted", {"confidence_threshold": 1}, ["confidence_threshold=1", "below 1"]),
    "confidence NaN": ("decoding.assisted", {"confidence_threshold": NAN}, ["nan", "below 1"]),
    "confidence truth": ("decoding.assisted", {"confidence_threshold": True}, ["True", NUMBER]),
    "n-gram": ("decoding.prompt_lookup", {"max_ngram": -1}, ["max_ngram=-1", "from 1"]),
    "lookup text": ("decoding.prompt_lookup", {"num_draft_tokens": "three"}, ["'three'", WHOLE]),
    "KV bits as float": ("decoding.quantized_cache", {"nbits": 4.0}, ["nbits=4.0", WHOLE]),
    "KV group": ("decoding.quantized_cache", {"group_size": 0}, ["group_size=0", "from 1"]),
    "KV axis": ("decoding.quantized_cache", {"axis_key": 0.0}, ["axis_key=0.0", WHOLE]),
    "attention number": ("kernels.attention", {"implementation": 3}, ["implementation=3", TEXT]),
    "attention list": ("kernels.attention", {"implementation": []}, ["implementation=[]", TEXT]),
    "bits as text": ("quantization.bitsandbytes", {"bits": "4"}, ["bits='4'", WHOLE, "without quotes"]),
    "bits as float": ("quantization.bitsandbytes", {"bits": 4.0}, ["bits=4.0", WHOLE]),
    "double": ("quantization.bitsandbytes", {"double_quant": "yes"}, ["double_quant='yes'", TRUTH]),
    "threshold NaN": ("quantization.bitsandbytes", {"bits": 8, "threshold": NAN}, ["threshold=nan", NUMBER]),
    "threshold below": ("quantization.bitsandbytes", {"bits": 8, "threshold": -6}, ["threshold=-6", "from 0"]),
    "threshold without end": ("quantization.bitsandbytes", {"bits": 8, "threshold": INF}, ["inf", NUMBER]),
    "act-order as number": ("quantization.gptq", {"desc_act": 1}, ["desc_act=1", TRUTH]),
    "no calibration prompts": ("quantization.gptq", {"num_prompts": 0}, ["num_prompts=0", "from 1"]),
    "calibration list": ("quantization.gptq", {"calibration": ["a.jsonl"]}, ["calibration=['a.jsonl']", TEXT]),
    "zero point": ("quantization.awq", {"zero_point": 1}, ["zero_point=1", TRUTH]),
    "axis": ("quantization.hqq", {"axis": True}, ["axis=True", WHOLE]),
    "iterations": ("quantization.auto_round", {"iters": -1}, ["iters=-1", "from 0"]),
    "block": ("quantization.fp8", {"block_rows": NAN}, ["block_rows=nan", WHOLE]),
    "block text": ("quantization.fp8", {"block_columns": "128"}, ["'128'", WHOLE]),
    "group of sinq": ("quantization.sinq", {"group_size": "64"}, ["'64'", WHOLE]),
    "rotation": ("quantization.higgs", {"hadamard_size": 0}, ["hadamard_size=0", "from 1"]),
    "upper bound": ("quantization.fbgemm_fp8", {"activation_scale_ub": INF}, ["inf", "above 0"]),
    "code books": ("quantization.aqlm", {"num_codebooks": 0}, ["num_codebooks=0", "from 1"]),
    "vectors": ("quantization.vptq", {"vector_len": "8"}, ["'8'", WHOLE]),
    "symmetric": ("quantization.torchao", {"symmetric": "no"}, ["symmetric='no'", TRUTH]),
    "adapter": ("adapters.lora", {"adapter": 3}, ["adapter=3", TEXT]),
    "merged": ("adapters.lora", {"merged": "yes"}, ["merged='yes'", TRUTH]),
    "checkpoint": ("quantization.configured", {"checkpoint": 3}, ["checkpoint=3", TEXT]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_of_an_optimization_is_refused(refusal, case):
    name, options, words = OPTIONS[case]
    kind = Registry("optimizations", "optimization").load(name)
    refusal(lambda: build(kind, name, (), options), [name, *options, *words])


WRONG = {int: "many", float: "much", bool: 1, str: 3}


@pytest.mark.parametrize("name", Registry("optimizations", "optimization").names())
def test_every_option_of_every_optimization_refuses_another_type(refusal, name):
    """Third-party ones too: the types are those of the annotations."""
    kind = Registry("optimizations", "optimization").load(name)
    types = hints_of_class(kind)
    for option in options_of(kind):
        wrong = next((bad for own, bad in WRONG.items() if own.__name__ in str(types[option.name])), None)
        if wrong is not None:
            refusal(lambda: build(kind, name, (), {option.name: wrong}), [name, f"{option.name}={wrong!r}"])  # noqa: B023


LIMITS = {
    "speed NaN": (Budget, {"decode_speedup": NAN}, ["decode_speedup=nan", "above 0"]),
    "speed without end": (Budget, {"decode_speedup": INF}, ["decode_speedup=inf", "above 0"]),
    "speed as text": (Budget, {"prefill_speedup": "2"}, ["'2'", "without quotes"]),
    "speed of truth": (Budget, {"prefill_speedup": True}, ["True", NUMBER]),
    "time of nothing": (Budget, {"ttft_ms": 0}, ["ttft_ms=0", "above 0"]),
    "memory of NaN": (Budget, {"weight_memory": NAN}, ["weight_memory=nan", "6 GiB"]),
    "memory of truth": (Budget, {"weight_memory": True}, ["True", "6 GiB"]),
    "memory in words": (Budget, {"weight_memory": "a lot"}, ["'a lot' is not a size"]),
    "memory without end": (Budget, {"weight_memory": "9" * 190 + " GiB"}, ["finite", "6 GiB"]),
    "memory list": (Budget, {"weight_memory": ["6 GiB"]}, ["['6 GiB']", "a size"]),
    "KL NaN": (AccuracyLimits, {"kl_divergence": NAN}, ["kl_divergence=nan", "from 0"]),
    "KL below": (AccuracyLimits, {"kl_divergence": -1}, ["kl_divergence=-1", "from 0"]),
    "agreement in percent": (AccuracyLimits, {"top1_agreement": 95}, ["95 % is 0.95"]),
    "ratio of nothing": (AccuracyLimits, {"perplexity_ratio": 0}, ["above 0"]),
    "tie NaN": (Limits, {"tie_margin": NAN}, ["tie_margin=nan", "from 0"]),
    "mean without end": (Limits, {"mean_kl": INF}, ["mean_kl=inf", "from 0"]),
    "worst as text": (Limits, {"worst_kl": "small"}, ["'small'", NUMBER]),
    "no tokens": (SamplingParams, {"max_new_tokens": 0}, ["max_new_tokens=0", "from 1"]),
    "token truth": (SamplingParams, {"max_new_tokens": True}, ["True", WHOLE]),
    "hot": (SamplingParams, {"temperature": "hot"}, ["'hot'", "from 0 to 100"]),
    "without end": (SamplingParams, {"temperature": INF}, ["inf", "from 0 to 100"]),
    "absolute zero": (SamplingParams, {"temperature": 1e-300}, ["1e-300", "0 for greedy"]),
    "half a token": (SamplingParams, {"top_k": 2.5}, ["top_k=2.5", WHOLE]),
    "no mass": (SamplingParams, {"top_p": 0}, ["top_p=0", "above 0 to 1"]),
    "NaN mass": (SamplingParams, {"top_p": NAN}, ["top_p=nan"]),
    "certain": (SamplingParams, {"min_p": 1}, ["min_p=1", "below 1"]),
    "seed below": (SamplingParams, {"seed": -1}, ["seed=-1", "from 0 to 4294967295"]),
    "seed beyond": (SamplingParams, {"seed": HUGE}, ["...", "4294967295"]),
    "ends as text": (SamplingParams, {"stop_token_ids": "ab"}, ["'ab'", "list"]),
    "ends below": (SamplingParams, {"stop_token_ids": [-1]}, ["[-1]", "from 0"]),
}
STATED = {
    AccuracyLimits: {"kl_divergence": 0.1, "top1_agreement": 0.9, "perplexity_ratio": 1.1, "source": "me"},
    Limits: {"tie_margin": 0.1, "mean_kl": 0.1, "worst_kl": 1.0},
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_limit_or_setting_is_refused(refusal, case):
    kind, given, words = LIMITS[case]
    refusal(lambda: kind(**STATED.get(kind, {}) | given), words)


def test_no_value_is_taken_for_another_of_another_type(refusal):
    refusal(lambda: one_of("bits", 4.0, (4, 8)), ["bits=4.0", "4, 8"])
    refusal(lambda: one_of("axis", bool(1), (0, 1)), ["axis=True", "0, 1"])


def test_what_another_package_raises_for_a_value_is_told_with_the_value(refusal):
    class Theirs:
        __dataclass_fields__ = {}  # noqa: RUF012 - as a dataclass has

        def __init__(self):
            raise LookupError

    refusal(lambda: build(Theirs, "theirs", (), {}), ["theirs"])


def test_every_default_fits():
    """What is left out is never refused."""
    for kind in (SamplingParams, Budget):
        fit_fields(kind())
