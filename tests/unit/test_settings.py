"""Every option has its ini twin; command line, then marker, then ini, then default."""

from pathlib import Path

import pytest

from pytest_llmopt.core.loading import ZOO, LoadPolicy, fixtures_folder
from pytest_llmopt.options import OPTIONS, Settings

VALUES = {
    str: ("written", "written"),
    int: ("7", 7),
    bool: ("true", True),
}
CHOSEN = {"dtype": "bfloat16", "inconclusive": "warn"}


def text_and_value(option):
    if option.many:
        return "a, b", ("a", "b")
    if option.choices:
        return CHOSEN[option.name], CHOSEN[option.name]
    return VALUES[type(option.default)]


WRITTEN = {name: text_and_value(option)[1] for name, option in OPTIONS.items()}


@pytest.fixture
def settings(pytester):
    """A function that gives the settings of a pytest run with an ini file and a command line."""

    def settings(*arguments, ini=""):
        pytester.makeini(f"[pytest]\n{ini}")
        return Settings.of(pytester.parseconfig(*arguments))

    return settings


@pytest.mark.parametrize("name", OPTIONS)
def test_default_ini_marker_and_command_line_win_in_this_order(name):
    layers = [Settings({}, {}), Settings({}, {name: "ini"}), Settings({name: "line"}, {name: "ini"})]
    default = () if OPTIONS[name].many else OPTIONS[name].default
    assert [layer.get(name) for layer in layers] == [default, "ini", "line"]
    assert [layer.get(name, "marker") for layer in layers] == ["marker", "marker", "line"]


def test_every_option_is_read_from_the_ini_file(settings):
    found = settings(ini="\n".join(f"{option.ini} = {text_and_value(option)[0]}" for option in OPTIONS.values()))
    assert {name: found.get(name) for name in OPTIONS} == WRITTEN


def test_every_option_is_read_from_the_command_line(settings):
    found = settings(
        *(
            option.flag if isinstance(option.default, bool) else f"{option.flag}={text_and_value(option)[0]}"
            for option in OPTIONS.values()
        )
    )
    assert {name: found.get(name) for name in OPTIONS} == WRITTEN


def test_every_option_has_its_default_where_nothing_is_said(settings):
    found = settings()
    assert found == Settings({}, {})


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS.keys())
def test_names_on_the_command_line_and_in_the_ini_file_are_twins(option):
    assert option.flag == "--" + option.ini.replace("_", "-")


def test_the_command_line_wins_over_the_ini_file(settings):
    assert settings("--llmopt-seed=2", ini="llmopt_seed = 1").get("seed") == 2
    assert settings("--llmopt-download", ini="llmopt_download = false").get("download") is True


@pytest.mark.parametrize(("text", "value"), [("true", True), ("Yes", True), ("1", True), ("off", False), ("0", False)])
def test_a_switch_in_the_ini_file_takes_the_usual_words(settings, text, value):
    assert settings(ini=f"llmopt_download = {text}").get("download") is value


@pytest.mark.parametrize(
    ("arguments", "ini", "message"),
    [
        (["--llmopt-seed=x"], "", "--llmopt-seed must be a whole number from 0 to 4294967295, got 'x'"),
        (["--llmopt-dtype=int3"], "", "--llmopt-dtype must be one of auto, float32, .* got 'int3'"),
        (["--llmopt-require="], "", "--llmopt-require needs at least one name"),
        ([], "llmopt_download = perhaps", "llmopt_download must be true or false, got 'perhaps'"),
        ([], "llmopt_inconclusive = ignore", "must be one of fail, warn, got 'ignore'"),
        ([], "llmopt_threads = many", "must be a whole number from 0 to 1024, got 'many'"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_a_usage_error(settings, arguments, ini, message):
    with pytest.raises(pytest.UsageError, match=message):
        settings(*arguments, ini=ini)


def test_options_with_several_values_may_be_given_again_or_with_commas(settings):
    assert settings("--llmopt-require=a,b", "--llmopt-require", "c").get("require") == ("a", "b", "c")
    assert settings(ini="llmopt_require =\n    a\n    b, c").get("require") == ("a", "b", "c")


def test_zoo_stands_for_all_its_models_each_once():
    assert Settings({"model": ("mine", "zoo", ZOO[0])}, {}).models() == ("mine", *ZOO)
    assert Settings({}, {"model": ("ini",)}).models(("marker", "marker")) == ("marker",)
    assert Settings({}, {"model": ("ini",)}).models() == ("ini",)
    assert Settings({}, {}).models() == ()


def test_prompts_default_to_the_held_out_set_that_ships():
    assert Settings({}, {}).prompts == fixtures_folder() / "prompts" / "default.jsonl"
    assert Settings({"prompts": "mine.jsonl"}, {}).prompts == Path("mine.jsonl")


def test_loading_may_do_nothing_unasked():
    policy = Settings({}, {}).policy
    assert policy == LoadPolicy(share=policy.share)


def test_the_policy_holds_what_was_asked_for():
    asked = {"download": True, "trust_remote_code": True, "unsafe_weights": True, "draft": "d", "threads": 3}
    policy = Settings(asked, {}).policy
    assert policy == LoadPolicy(**asked, share=policy.share)


def test_workers_share_the_processors():
    assert Settings({}, {}, workers=10**6).policy.share == 1
    assert Settings({}, {}, workers=1).policy.share >= Settings({}, {}, workers=2).policy.share >= 1
