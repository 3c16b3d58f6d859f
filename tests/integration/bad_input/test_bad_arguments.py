"""Arguments of every check: there, known, of their type and in their range, however the check is called."""

import inspect
import math

import numpy as np
import pytest
from sides import as_, asserted, open_side

from pytest_llmopt.assertions import assertion
from pytest_llmopt.checks._limits import Limits
from pytest_llmopt.core.arguments import checked
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.values import fit, hints
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.core.verdict import Status, Verdict
from pytest_llmopt.gate import assert_gate

CHECKS = Registry("checks", "check").names()
NAN, INF, HUGE = math.nan, math.inf, 10**190
PROMPTS = ["The value of the expression is", "def main(argv):\n    return"]
ACCURACY = {"kl_divergence": 1.0, "top1_agreement": 0.1, "perplexity_ratio": 2.0}
WHOLE = "a whole number"


@pytest.fixture(scope="module")
def sides():
    """An engine twice: nothing is decoded in most of these tests."""
    engine = open_side(Variant("tiny-llama"), LoadPolicy())
    yield engine, as_("reference", engine)
    engine.close()


class Timer:
    """A benchmark that is on, and is never asked."""

    disabled = False


def call(name, sides, prompts=PROMPTS, **options):
    """An assertion with a benchmark where it needs one."""
    if name == "gate":
        return assert_gate(*sides, prompts, **options)
    if name == "within_budget":
        return asserted(name, *sides, prompts, benchmark=Timer(), **options)
    return asserted(name, *sides, prompts, **(ACCURACY if name == "accurate" else {}) | options)


ARGUMENTS = {
    "no prompts": ("equivalent", {"num_prompts": 0}, ["num_prompts=0", "from 1"]),
    "prompts below": ("equivalent", {"num_prompts": -1}, ["num_prompts=-1", "from 1"]),
    "prompts of truth": ("equivalent", {"num_prompts": True}, ["num_prompts=True", WHOLE]),
    "prompts as float": ("equivalent", {"num_prompts": 16.0}, ["num_prompts=16.0", WHOLE]),
    "prompts as text": ("equivalent", {"num_prompts": "16"}, ["'16'", "without quotes"]),
    "prompts without end": ("equivalent", {"num_prompts": HUGE}, ["...", "at most 2147483647"]),
    "prompts None": ("equivalent", {"num_prompts": None}, ["num_prompts=None", WHOLE]),
    "no maximum": ("equivalent", {"max_prompts": 0}, ["max_prompts=0", "from 1"]),
    "tokens of truth": ("equivalent", {"max_new_tokens": True}, ["max_new_tokens=True", WHOLE]),
    "no tokens": ("equivalent", {"max_new_tokens": 0}, ["max_new_tokens=0", "from 1"]),
    "forced below": ("equivalent", {"forced_tokens": -1}, ["forced_tokens=-1", "from 0"]),
    "no depth": ("equivalent", {"deepest": 0}, ["deepest=0", "from 3"]),
    "positions": ("equivalent", {"least_positions": NAN}, ["least_positions=nan", WHOLE]),
    "false alarm of two": ("equivalent", {"false_alarm": 2}, ["false_alarm=2", "above 0 and below 1"]),
    "false alarm NaN": ("equivalent", {"false_alarm": NAN}, ["false_alarm=nan"]),
    "limits number": ("equivalent", {"limits": 0.1}, ["limits=0.1", "Limits"]),
    "limits dictionary": ("equivalent", {"limits": {"mean_kl": 1}}, ["limits={'mean_kl': 1}", "Limits"]),
    "misspelled": (
        "equivalent",
        {"nm_prompts": 3},
        ["assert_equivalent", "'nm_prompts'", "did you mean 'num_prompts'?"],
    ),
    "unknown": ("equivalent", {"xyzzy": 3}, ["assert_equivalent has no argument 'xyzzy'", "max_new_tokens"]),
    "KL below": ("accurate", {"kl_divergence": -1}, ["kl_divergence=-1", "from 0"]),
    "KL NaN": ("accurate", {"kl_divergence": NAN}, ["kl_divergence=nan"]),
    "KL without end": ("accurate", {"kl_divergence": INF}, ["kl_divergence=inf", "finite"]),
    "KL as text": ("accurate", {"kl_divergence": "0.1"}, ["'0.1'", "without quotes"]),
    "agreement in percent": ("accurate", {"top1_agreement": 95}, ["top1_agreement=95", "95 % is 0.95"]),
    "agreement NaN": ("accurate", {"top1_agreement": NAN}, ["top1_agreement=nan"]),
    "ratio of nothing": ("accurate", {"perplexity_ratio": 0}, ["perplexity_ratio=0", "above 0"]),
    "no outcomes": ("accurate", {"outcomes": []}, ["outcomes=[]", "a non-empty list"]),
    "outcomes as numbers": ("accurate", {"outcomes": [1, 2]}, ["outcomes=[1, 2]", "True or False"]),
    "outcomes alone": ("accurate", {"outcomes": [(True,)]}, ["outcomes=[(True,)]", "a list of 2"]),
    "outcomes of three": ("accurate", {"outcomes": [(True, False, True)]}, ["a list of 2"]),
    "outcomes as text": ("accurate", {"outcomes": "yes"}, ["outcomes='yes'", "list"]),
    "outcomes in words": ("accurate", {"outcomes": [("yes", "no")]}, ["('yes', 'no')", "True or False"]),
    "outcomes as a matrix": ("accurate", {"outcomes": np.zeros((3, 3))}, ["a list of 2"]),
    "outcomes ragged": ("accurate", {"outcomes": [(True, True), (False,)]}, ["a list of 2"]),
    "loss in percent": ("accurate", {"accuracy_loss": 5}, ["accuracy_loss=5", "5 % is 0.05"]),
    "seed below": ("accurate", {"seed": -1}, ["seed=-1", "from 0 to 4294967295"]),
    "seed as float": ("accurate", {"seed": 0.5}, ["seed=0.5", WHOLE]),
    "seed of truth": ("lossless", {"seed": True}, ["seed=True", WHOLE]),
    "seed without end": ("lossless", {"seed": HUGE}, ["...", "4294967295"]),
    "hot": ("lossless", {"temperature": "hot"}, ["temperature='hot'", "finite number from 0"]),
    "absolute zero": ("lossless", {"temperature": 0}, ["temperature=0 draws nothing", "assert_equivalent"]),
    "nearly zero": ("lossless", {"temperature": 1e-300}, ["temperature=1e-300", "0.001"]),
    "temperature NaN": ("lossless", {"temperature": NAN}, ["temperature=nan"]),
    "temperature list": ("lossless", {"temperature": [0.7]}, ["temperature=[0.7]", "number"]),
    "half a token": ("lossless", {"top_k": 2.5}, ["top_k=2.5", WHOLE]),
    "top-p in percent": ("lossless", {"top_p": 95}, ["top_p=95", "95 % is 0.95"]),
    "no mass": ("lossless", {"top_p": 0}, ["top_p=0", "above 0"]),
    "min-p of one": ("lossless", {"min_p": 1}, ["min_p=1", "below 1"]),
    "no samples": ("lossless", {"max_tokens": 0}, ["max_tokens=0", "from 1"]),
    "certain alarm": ("lossless", {"false_alarm": 1}, ["false_alarm=1", "below 1"]),
    "floor below": ("lossless", {"floor_kl": -1}, ["floor_kl=-1", "from 0"]),
    "tie NaN": ("lossless", {"tie_margin": NAN}, ["tie_margin=nan", "from 0"]),
    "alarm as text": ("seeded", {"false_alarm": "rare"}, ["false_alarm='rare'", "finite number"]),
    "no seeded prompts": ("seeded", {"num_prompts": 0}, ["num_prompts=0", "from 1"]),
    "seeded seed": ("seeded", {"seed": "7"}, ["seed='7'", "without quotes"]),
    "relations as text": ("invariant", {"relations": "repeat"}, ["relations='repeat'", "such as ['repeat']"]),
    "no relations": ("invariant", {"relations": []}, ["relations=[]", "a non-empty list"]),
    "relations number": ("invariant", {"relations": 5}, ["relations=5", "list"]),
    "relations of numbers": ("invariant", {"relations": [3]}, ["relations=[3]", "texts"]),
    "relations dictionary": ("invariant", {"relations": {"repeat": 1}}, ["relations={'repeat': 1}", "list"]),
    "no such relation": ("invariant", {"relations": ["repaet"]}, ["'repaet'", "did you mean 'repeat'?"]),
    "relations set": ("invariant", {"relations": {"repeat"}}, ["relations={'repeat'}", "list"]),
    "invariant limits": ("invariant", {"limits": "tight"}, ["limits='tight'", "Limits"]),
    "declared number": ("optimized", {"declared": 5}, ["declared=5", "list"]),
    "declared nothing known": ("optimized", {"declared": ["eos"]}, ["declared='eos'", "facts"]),
    "optimized tokens": ("optimized", {"max_new_tokens": 2.0}, ["max_new_tokens=2.0", WHOLE]),
    "checks as text": ("gate", {"checks": "equivalent"}, ["checks='equivalent'", "such as ['equivalent']"]),
    "no checks": ("gate", {"checks": []}, ["checks=[]", "a non-empty list"]),
    "no such check": ("gate", {"checks": ["accurate"]}, ["has no accurate", "it has equivalent"]),
    "stop in words": ("gate", {"stop_at_first": "yes"}, ["stop_at_first='yes'", "True or False"]),
    "gate misspelled": ("gate", {"check": ["equivalent"]}, ["assert_gate", "'check'", "did you mean 'checks'?"]),
    "few new tokens": ("within_budget", {"new_tokens": 4, "ttft_ms": 9}, ["new_tokens=4", "from 16"]),
    "no rounds": ("within_budget", {"rounds": 0, "ttft_ms": 9}, ["rounds=0", "from 1"]),
    "no such limit": ("within_budget", {"ttft_sec": 9}, ["no option 'ttft_sec'", "ttft_ms"]),
    "limit NaN": ("within_budget", {"ttft_ms": NAN}, ["ttft_ms=nan", "above 0"]),
    "no limit": ("within_budget", {}, ["no budget", "llmopt.budget"]),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_an_argument_of_a_check_is_refused(refusal, sides, case):
    name, options, words = ARGUMENTS[case]
    refusal(lambda: call(name, sides, **options), words)


WRONG = {"int": "many", "float": "much", "bool": 1, "Sequence": 5}


@pytest.mark.parametrize("name", CHECKS)
def test_every_argument_of_every_check_refuses_another_type(refusal, sides, name):
    """By the annotations, so that a check in a new file needs no row here; a direct call passes through it too."""
    check = Registry("checks", "check").load(name)
    known = hints(inspect.unwrap(check).__annotations__, check.__module__)
    tried = 0
    for argument, parameter in inspect.signature(check).parameters.items():
        kind = str(known[argument])
        wrong = next((bad for own, bad in WRONG.items() if own in kind), None)
        if parameter.kind is parameter.KEYWORD_ONLY and wrong is not None:
            given = {"benchmark": Timer()} if name == "within_budget" else {}
            given |= {argument: wrong}
            refusal(lambda: asserted(name, *sides, PROMPTS, **given), [f"{argument}={wrong!r}"])  # noqa: B023
            tried += 1
    assert tried >= 3


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "within_budget"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reference": ...}, ["assert_"]),
        ({"prompts": ...}, ["lacks prompts", "the fixture `prompts`"]),
        ({"candidate": None}, ["candidate=None is no side", "fixture `candidate`"]),
        ({"candidate": "tiny-llama"}, ["candidate='tiny-llama' is no side"]),
        ({"reference": "tiny-llama"}, ["reference='tiny-llama' is no side"]),
    ],
    ids=["no reference", "no prompts", "None", "text", "text as reference"],
)
def test_sides_and_prompts_that_are_none_are_refused(refusal, sides, name, arguments, words):
    check = assertion(name, Registry("checks", "check").load(name))
    given = {"candidate": sides[0], "reference": sides[1], "prompts": PROMPTS} | arguments
    given = {key: value for key, value in given.items() if value is not ...}
    if "reference" not in given and name in {"seeded", "invariant"}:  # these need no reference
        given["num_prompts"], words = 0, ["num_prompts=0"]
    refusal(lambda: check(**given), words)


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "within_budget"])
def test_what_has_no_place_is_given_by_name(refusal, sides, name):
    check = assertion(name, Registry("checks", "check").load(name))
    given = (sides[0], PROMPTS) if name in {"seeded", "invariant"} else (*sides, PROMPTS)
    refusal(lambda: check(*given, 3), ["by name", "num_prompts="])


def test_a_check_of_another_package_is_held_to_its_annotations_too(refusal, sides):
    def polite(candidate, reference, prompts, *, times: int = 3, share: float = 0.5, mood="mild"):
        return Verdict("polite", {}, f"{times} {share} {mood}")

    check = checked(polite)
    assert check(*sides, PROMPTS, mood=["any"]).status is Status.INCONCLUSIVE
    refusal(lambda: check(*sides, PROMPTS, times="3"), ["assert_polite", "times='3'"])
    refusal(lambda: check(*sides, PROMPTS, share=NAN), ["share=nan"])
    refusal(lambda: check(*sides, PROMPTS, tims=3), ["did you mean 'times'?"])


def test_a_benchmark_that_is_none_is_refused(refusal, sides):
    check = assertion("within_budget", Registry("checks", "check").load("within_budget"))
    refusal(lambda: check(*sides, None, ttft_ms=9), ["benchmark=None", "the fixture `benchmark`"])
    refusal(lambda: check(*sides, ttft_ms=9), ["lacks benchmark", "the fixture `benchmark`"])


def test_numbers_of_numpy_are_numbers(sides):
    found = call("seeded", sides, num_prompts=np.int64(1), max_new_tokens=np.int32(12), false_alarm=np.float32(0.5))
    assert found.status is Status.PASS


def test_limits_given_are_taken(sides):
    assert fit("limits", Limits(0.1, 0.1, 0.1), Limits | None) == Limits(0.1, 0.1, 0.1)


def test_a_wrong_argument_in_a_test_ends_at_the_line_of_the_test(run_bad):
    body = "llmopt.assert_equivalent(candidate, reference, prompts, num_prompts=0)"
    text = run_bad(["num_prompts=0", "from 1", "test_it"], "--llmopt-model", "tiny-llama", body=body)
    assert "pytest_llmopt/checks/equivalent.py" not in text
