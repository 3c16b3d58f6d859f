"""Markers follow Python's classes and pytest's parameters; what would have no effect is refused."""

import pytest

HEAD = "import pytest\nfrom pytest_llmopt import llmopt\n"
INHERITED = (
    HEAD
    + """
pytestmark = [llmopt.attention("eager"), llmopt.budget(ttft_ms=1), llmopt.model("tiny-qwen")]

def test_module(candidate): pass

@llmopt.attention("sdpa")
@llmopt.budget(ttft_ms=2)
@llmopt.model("tiny-gemma")
class Base:
    def test_inherited(self, candidate): pass

    @llmopt.budget(ttft_ms=4)
    def test_function(self, candidate): pass

class TestBase(Base):
    pass

@llmopt.attention("flex_attention")
@llmopt.budget(ttft_ms=3)
@llmopt.model("tiny-llama")
class TestSub(Base):
    pass

@llmopt.budget(ttft_ms=5)
class Mixin:
    pass

class TestMixin(Mixin, Base):
    pass

class TestListed(Base):
    pytestmark = [llmopt.budget(ttft_ms=6)]
    class TestInner:
        def test_inner(self, candidate): pass

@pytest.mark.parametrize("x", [
    pytest.param(1, marks=llmopt.budget(ttft_ms=7)),
    pytest.param(2, marks=[llmopt.attention("flex_attention"), llmopt.model("tiny-gemma", "tiny-llama")]),
    3,
])
@llmopt.budget(ttft_ms=8)
@llmopt.model("tiny-llama")
def test_parameter(candidate, x): pass

@llmopt.variants({"a": llmopt.model("tiny-qwen"), "b": [llmopt.model("tiny-gemma"), llmopt.attention("sdpa")], "c": []})
def test_variant(candidate): pass

@pytest.fixture(params=[pytest.param(1, marks=llmopt.model("tiny-gemma"))])
def number(request): return request.param

def test_fixture(candidate, number): pass

@llmopt.optimization("kernels.attention", "sdpa")
def test_full_name(candidate): pass

GPUS, ENGINE = llmopt.gpu(count=3), llmopt.engine("transformers")

@pytest.mark.parametrize("x", [pytest.param(1, marks=GPUS), pytest.param(2, marks=ENGINE)])
@pytest.mark.parametrize("y", [pytest.param(1, marks=llmopt.against(llmopt.static_cache()))])
@llmopt.against(llmopt.prompt_lookup())
@llmopt.gpu
def test_others(candidate, x, y): pass
"""
)


def test_the_closest_marker_counts_parameters_first_then_the_mro_then_the_module(described):
    found, result = described(INHERITED)
    assert result.ret == 0
    in_order = [line.split(": ", 1) for line in result.outlines if line.startswith("<")]
    told = {}
    for name, text in in_order:
        sides, ttft, _ = text.split(", ")
        candidate, _, model = sides.partition(" on ")
        told.setdefault(name[1:], []).append((candidate.split("=")[-1].split(")")[0], model, ttft.split()[1]))
    # The two classes that inherit a test without a word of their own, and those that override.
    assert sorted(told["test_inherited[tiny-gemma]"]) == [
        ("sdpa", "tiny-gemma", "2"),
        ("sdpa", "tiny-gemma", "5"),
        ("sdpa", "tiny-gemma", "6"),
    ]
    assert told["test_inherited[tiny-llama]"] == [("flex_attention", "tiny-llama", "3")]
    assert [ttft for _, _, ttft in told["test_function[tiny-gemma]"]] == ["4", "4", "4"]
    assert told["test_function[tiny-llama]"] == [("flex_attention", "tiny-llama", "4")]
    assert told["test_inner[tiny-gemma]"] == [("sdpa", "tiny-gemma", "6")]
    assert told["test_module[tiny-qwen]"] == [("eager", "tiny-qwen", "1")]
    assert told["test_parameter[tiny-llama-1]"] == [("eager", "tiny-llama", "7")]
    assert told["test_parameter[tiny-gemma-2]"] == [("flex_attention", "tiny-gemma", "8")]
    assert told["test_parameter[tiny-llama-2]"] == [("flex_attention", "tiny-llama", "8")]
    assert told["test_parameter[tiny-llama-3]"] == [("eager", "tiny-llama", "8")]
    assert told["test_variant[tiny-qwen-a]"] == [("eager", "tiny-qwen", "1")]
    assert told["test_variant[tiny-gemma-b]"] == [("sdpa", "tiny-gemma", "1")]
    assert told["test_variant[tiny-qwen-c]"] == [("eager", "tiny-qwen", "1")]
    assert told["test_fixture[tiny-gemma-1]"] == [("eager", "tiny-gemma", "1")]
    assert told["test_full_name[tiny-qwen]"] == [("sdpa", "tiny-qwen", "1")]
    assert "against static_cache on" in found["test_others[tiny-qwen-1-1]"]
    assert {name.partition("[")[0] for name in told} == {
        *("test_inherited", "test_function", "test_inner", "test_module", "test_parameter", "test_variant"),
        *("test_full_name", "test_others", "test_fixture"),
    }


def test_the_command_line_wins_over_a_model_in_the_parameters(described):
    found, _ = described(INHERITED, "--llmopt-model", "tiny-qwen", "-k", "test_parameter or test_variant")
    assert {text.split(",")[0].rpartition(" ")[2] for text in found.values()} == {"tiny-qwen"}
    assert len(found) == 6


def test_a_marker_that_a_plugin_adds_or_a_conftest_gives_to_a_test_counts(rules, described):
    rules.makepyfile(
        adding="""
        def pytest_collection_modifyitems(items):
            from pytest_llmopt import llmopt
            items[0].add_marker(llmopt.attention("sdpa"), append=False)
            items[1].add_marker(llmopt.attention("sdpa"))
            items[2].add_marker(llmopt.attention("sdpa"))
        """
    )
    rules.syspathinsert()
    found, _ = described(
        HEAD
        + """
@llmopt.attention("eager")
def test_before(candidate): pass
@llmopt.attention("eager")
def test_after(candidate): pass
def test_bare(candidate): pass
""",
        "-p",
        "adding",
        "test_a_marker_that_a_plugin_adds_or_a_conftest_gives_to_a_test_counts.py",
    )
    given = {name.partition("[")[0]: text.partition(" against")[0] for name, text in found.items()}
    assert given == {
        "test_before": "attention(implementation=sdpa)",
        "test_after": "attention(implementation=eager)",
        "test_bare": "attention(implementation=sdpa)",
    }


TWICE = {
    "model": ("@llmopt.model('a')\n@llmopt.model('b')\ndef test_it(candidate): pass", "model('a', 'b')"),
    "budget": ("@llmopt.budget(ttft_ms=1)\n@llmopt.budget(ttft_ms=2)\ndef test_it(candidate): pass", "budget stands 2"),
    "gpu": ("@llmopt.gpu\n@llmopt.gpu(count=2)\ndef test_it(candidate): pass", "gpu stands 2 times"),
    "engine": ("@llmopt.engine('transformers')\n@llmopt.engine('x')\ndef test_it(candidate): pass", "engine stands 2"),
    "against": ("@llmopt.against()\n@llmopt.against()\ndef test_it(candidate): pass", "against stands 2 times"),
    "module": ("pytestmark = [llmopt.gpu, llmopt.gpu]\ndef test_it(candidate): pass", "gpu stands 2 times"),
    "class": (
        "@llmopt.gpu(count=1)\n@llmopt.gpu(count=2)\nclass TestIt:\n    def test_it(self, candidate): pass",
        "gpu stands 2 times on class TestIt",
    ),
    "parameters": (
        (
            "@pytest.mark.parametrize('x', [pytest.param(1, marks=llmopt.gpu)])\n"
            "@pytest.mark.parametrize('y', [pytest.param(1, marks=llmopt.gpu)])\ndef test_it(candidate, x, y): pass"
        ),
        "gpu stands 2 times on its parameters",
    ),
    "optimization": (
        "@llmopt.static_cache()\n@llmopt.optimization('decoding.static_cache', True)\ndef test_it(candidate): pass",
        "stacked twice",
    ),
}
IDLE = {
    "function": ("@llmopt.static_cache()\ndef test_it(): pass", "static_cache on a test that asks for no side"),
    "two": ("@llmopt.static_cache()\n@llmopt.gpu\n@llmopt.budget(ttft_ms=1)\ndef test_it(): pass", "budget, static"),
    "parameters": (
        "@pytest.mark.parametrize('x', [pytest.param(1, marks=llmopt.model('tiny-llama'))])\ndef test_it(x): pass",
        "model on a test that asks for no side",
    ),
    "later": (
        "@llmopt.static_cache()\ndef test_it(request):\n    request.getfixturevalue('candidate')",
        "usefixtures",
    ),
    "method": ("class TestIt:\n    @llmopt.engine('transformers')\n    def test_it(self): pass", "engine on a test"),
    "unittest": (
        "import unittest\nclass TestIt(unittest.TestCase):\n    @llmopt.static_cache()\n    def test_it(self): pass",
        "static_cache on a test that asks for no side",
    ),
    "unittest that asks": (
        (
            "import unittest\n@pytest.mark.usefixtures('candidate')\nclass TestIt(unittest.TestCase):\n"
            "    def test_it(self): pass"
        ),
        "unittest.TestCase cannot run once per model",
    ),
    "async": ("@llmopt.static_cache()\nasync def test_it(): pass", "static_cache on a test"),
}
WRONG = {
    "no model": ("@llmopt.model()\ndef test_it(candidate): pass", "model takes the names of models"),
    "bare model": ("@llmopt.model\ndef test_it(candidate): pass", "model takes the names of models"),
    "list of models": ("@llmopt.model(['a', 'b'])\ndef test_it(candidate): pass", "got ['a', 'b']"),
    "named model": ("@llmopt.model(name='a')\ndef test_it(candidate): pass", "got name='a'"),
    "two engines": ("@llmopt.engine('transformers', 'x')\ndef test_it(candidate): pass", "engine takes one name"),
    "parametrized side": (
        "@pytest.mark.parametrize('candidate', [1, 2], indirect=True)\ndef test_it(candidate): pass",
        "candidate takes no parameters of its own; use llmopt.variants",
    ),
    "own llmopt_model": (
        "@pytest.fixture\ndef llmopt_model(): return 'tiny-qwen'\ndef test_it(candidate): pass",
        "hides that of pytest-llmopt",
    ),
    "no such method": (
        "@llmopt.quantized('bitsandbites')\ndef test_it(candidate): pass",
        "did you mean 'bitsandbytes'",
    ),
}


@pytest.mark.parametrize("case", [*TWICE.items(), *IDLE.items(), *WRONG.items()], ids=lambda case: case[0])
def test_what_has_no_effect_is_an_error_of_collection_that_names_the_test(rules, case):
    _, (source, words) = case
    rules.makepyfile(HEAD + source + "\n\ndef test_other(): raise AssertionError('must not run')\n")
    result = rules.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*ERROR collecting*", "*test_it*", "*Interrupted: * during collection*"])
    assert words in result.stdout.str()
    assert "must not run" not in result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


VARIANTS = {
    "empty": ("{}", "got an empty mapping"),
    "list": ("[llmopt.static_cache()]", "variants takes a mapping from ids to markers"),
    "pairs": ("[('a', llmopt.static_cache())]", "variants takes a mapping"),
    "nothing": ("None", "got None"),
    "number": ("{1: llmopt.static_cache()}", "1 is not an id"),
    "no id": ("{'': llmopt.static_cache()}", "'' is not an id"),
    "text": ("{'a': 'static_cache'}", "'a' is given 'static_cache'; write a marker"),
    "texts": ("{'a': ['static_cache']}", "'a' is given 'static_cache'"),
    "none": ("{'a': None}", "'a' is given None"),
    "called": ("{'a': llmopt.variants}", "'a' is given <function variants"),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_variants_that_are_none_are_refused(rules, case):
    given, words = VARIANTS[case]
    rules.makepyfile(HEAD + f"@llmopt.variants({given})\ndef test_it(candidate): pass\n")
    result = rules.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    assert words in result.stdout.str()
    assert "test_variants_that_are_none" in result.stdout.str()  # the line of the user, not ours


def test_variants_on_a_test_without_a_side_say_what_to_do(rules):
    rules.makepyfile(HEAD + "@llmopt.variants({'a': llmopt.static_cache()})\ndef test_it(): pass\n")
    result = rules.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_it: llmopt.variants on a test without a side: put `candidate`*"])


def test_markers_that_no_test_of_a_class_or_module_can_use_are_a_warning(rules):
    rules.makepyfile(
        test_idle=HEAD + "pytestmark = llmopt.static_cache()\ndef test_it(): pass\n",
        test_used=HEAD + "pytestmark = llmopt.static_cache()\ndef test_it(): pass\n"
        "@llmopt.optimization('mine.exotic')\ndef test_asks(candidate): pass\n",
        test_class=HEAD + "@llmopt.budget(ttft_ms=1)\nclass TestIt:\n    def test_it(self): pass\n",
        test_gpu=HEAD + "pytestmark = llmopt.gpu\n",
    )
    result = rules.runpytest_inprocess()
    result.assert_outcomes(passed=3, skipped=1, warnings=2)
    result.stdout.fnmatch_lines(["*no test of test_class.py::TestIt asks for a side, so its budget does nothing*"])
    result.stdout.fnmatch_lines(["*no test of test_idle.py asks for a side, so its static_cache does nothing*"])
    # A part of a module says nothing about the whole.
    rules.runpytest_inprocess("test_used.py::test_it").assert_outcomes(passed=1)
    strict = rules.runpytest_inprocess("-W", "error", "test_idle.py", "test_used.py")
    strict.assert_outcomes(errors=1)
    strict.stdout.fnmatch_lines(["*no test of test_idle.py asks for a side*"])


def test_a_side_that_is_asked_for_too_late_says_what_to_do(rules):
    rules.makepyfile(
        HEAD
        + """
@pytest.fixture
def late(request): return request.getfixturevalue("reference")

def test_late(request): request.getfixturevalue("candidate")
def test_fixture(late): pass
@pytest.fixture(scope="module")
def wide(candidate): pass
def test_scope(wide): pass
"""
    )
    result = rules.runpytest_inprocess()
    result.assert_outcomes(failed=1, errors=2)
    words = "request.getfixturevalue comes too late for a side, whose model is chosen at collection: put `candidate`"
    assert result.stdout.str().count(words) >= 2
    assert "ScopeMismatch" in result.stdout.str()


def test_fixtures_of_a_project_that_only_share_our_names_keep_working(rules):
    rules.makepyfile(
        HEAD
        + """
@pytest.fixture(params=["a", "b"])
def candidate(request): return request.param

@pytest.fixture
def reference(candidate): return candidate

def test_own(candidate, reference): assert candidate == reference

@pytest.mark.parametrize("candidate", [1, 2])
def test_direct(candidate): assert candidate in {1, 2}

@pytest.mark.parametrize("candidate", ["c"], indirect=True)
def test_indirect(candidate): assert candidate == "c"

@pytest.mark.parametrize("llmopt_model", ["x"])
def test_model(llmopt_model): assert llmopt_model == "x"
""",
        test_generated="""
def pytest_generate_tests(metafunc):
    for name in {"candidate", "reference"} & set(metafunc.fixturenames):
        metafunc.parametrize(name, [f"{name} 1", f"{name} 2"])

def test_generated(candidate, reference, request):
    assert request.node.name in {f"test_generated[candidate {n}-reference {m}]" for n in (1, 2) for m in (1, 2)} | {
        f"test_generated[reference {n}-candidate {m}]" for n in (1, 2) for m in (1, 2)
    }
""",
    )
    for options in ([], ["-o", "llmopt_model="], ["--llmopt-model", "zoo"]):
        rules.runpytest_inprocess(*options).assert_outcomes(passed=10)


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="needs pytest 9, which looks into fixtures that are overridden")
def test_a_fixture_may_wrap_a_side_under_its_own_name(described):
    source = """
@pytest.fixture
def candidate(candidate): return candidate

@llmopt.static_cache()
def test_it(candidate): pass

@pytest.mark.usefixtures("candidate")
@llmopt.prompt_lookup()
def test_used(): pass
"""
    found, _ = described(HEAD + source)
    wrapped = [text.partition(" against")[0] for text in found.values()]
    assert wrapped == ["static_cache", "prompt_lookup(num_draft_tokens=3)"]


def test_models_of_one_name_are_told_apart(rules, described):
    for folder in ("a", "b"):
        rules.mkdir(folder).joinpath("mine").mkdir()
    found, _ = described(HEAD + "def test_it(candidate): pass\n", "--llmopt-model", "a/mine,b/mine/,tiny-qwen,./a/mine")
    assert list(found) == ["test_it[a/mine]", "test_it[b/mine]", "test_it[tiny-qwen]"]


def test_models_may_be_given_by_pytests_own_parameters(described):
    source = (
        HEAD + "@pytest.mark.parametrize('llmopt_model', ['tiny-qwen', 'tiny-gemma']{})\ndef test_it(candidate): pass"
    )
    for indirect in ("", ", indirect=True"):
        found, result = described(source.format(indirect))
        assert result.ret == 0
        assert [text.split(",")[0].rpartition(" ")[2] for text in found.values()] == ["tiny-qwen", "tiny-gemma"]


def test_an_empty_set_of_parameters_is_a_skip_that_all_requires(rules):
    rules.makepyfile(
        HEAD
        + """
@pytest.mark.parametrize("x", [])
def test_it(candidate, x): raise AssertionError
"""
    )
    rules.runpytest_inprocess().assert_outcomes(skipped=1)
    result = rules.runpytest_inprocess("--llmopt-require", "all")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*required by --llmopt-require all: got empty parameter set*"])
    rules.runpytest_inprocess("--llmopt-require", "parameters").assert_outcomes(errors=1)


def test_marks_of_pytest_come_before_requirements(rules):
    rules.makepyfile(
        HEAD
        + """
EXOTIC = llmopt.optimization("mine.exotic")

@EXOTIC
@pytest.mark.skip(reason="not today")
def test_skip(candidate): pass

@EXOTIC
@pytest.mark.skipif(True, reason="not here")
def test_skipif(candidate): pass

@EXOTIC
@pytest.mark.xfail(reason="known", run=False)
def test_xfail(candidate): pass

@EXOTIC
@pytest.mark.xfail(reason="known")
def test_missing(candidate): pass

@EXOTIC
def test_required(candidate): pass
"""
    )
    result = rules.runpytest_inprocess("-rsx")
    result.assert_outcomes(skipped=4, xfailed=1)
    result.stdout.fnmatch_lines(["*not today*", "*not here*"])
    rules.runpytest_inprocess("--llmopt-require", "all").assert_outcomes(skipped=2, xfailed=2, errors=1)
