"""Every option has its ini twin; command line, then marker, then ini, then default; paths are absolute at start-up."""

import json
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


def written(folder):
    """What `text_and_value` amounts to where the paths are relative to a folder."""
    values = {name: text_and_value(option)[1] for name, option in OPTIONS.items()}
    paths = {name: str(folder / values[name]) for name, option in OPTIONS.items() if option.place == "path"}
    return values | paths


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


def test_every_option_is_read_from_the_ini_file(settings, pytester):
    found = settings(ini="\n".join(f"{option.ini} = {text_and_value(option)[0]}" for option in OPTIONS.values()))
    assert {name: found.get(name) for name in OPTIONS} == written(pytester.path)


def test_every_option_is_read_from_the_command_line(settings, pytester):
    found = settings(
        *(
            option.flag if isinstance(option.default, bool) else f"{option.flag}={text_and_value(option)[0]}"
            for option in OPTIONS.values()
        )
    )
    assert {name: found.get(name) for name in OPTIONS} == written(pytester.path)


def test_every_option_has_its_default_where_nothing_is_said(settings, pytester):
    found = settings()
    assert (found.command_line, found.ini, found.workers) == ({}, {}, 1)
    for name, option in OPTIONS.items():
        default = str(pytester.path / option.default) if name in {"cache", "report"} else option.default
        assert found.get(name) == (() if option.many else default)


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
        (["--llmopt-seed=-1"], "", "from 0 to 4294967295, got '-1'"),
        (["--llmopt-threads=1.5"], "", "a whole number from 0 to 1024, got '1.5'"),
        (["--llmopt-report="], "", "--llmopt-report must be a path, got ''"),
        (["-o", "llmopt_seed=one"], "", "llmopt_seed must be a whole number from 0 .* got 'one'"),
        ([], "llmopt_download = perhaps", "llmopt_download must be true or false, got 'perhaps'"),
        ([], "llmopt_inconclusive = ignore", "must be one of fail, warn, got 'ignore'"),
        ([], "llmopt_threads = many", "llmopt_threads must be a whole number from 0 to 1024, got 'many'"),
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


# Native types of TOML


TOML = {
    "seed": 3,
    "threads": 2,
    "download": True,
    "unsafe_weights": False,
    "model": ["a", "b"],
    "require": "gpu",
    "dtype": "bfloat16",
    "report": "out/report.json",
}


@pytest.fixture
def from_toml(pytester):
    """A function that gives the settings of a run whose pyproject.toml says something in its own types."""

    def from_toml(table="pytest", **values):
        lines = [f"llmopt_{name} = {json.dumps(value)}" for name, value in values.items()]
        pytester.makepyprojecttoml("\n".join([f"[tool.{table}]", *lines]))
        return Settings.of(pytester.parseconfig())

    return from_toml


@pytest.mark.parametrize("table", ["pytest", "pytest.ini_options"])
def test_toml_gives_numbers_switches_and_lists_as_such(from_toml, pytester, table):
    if table == "pytest" and pytest.version_tuple < (9,):
        pytest.skip("needs pytest 9, which reads [tool.pytest]")
    expected = TOML | {"model": ("a", "b"), "require": ("gpu",), "report": str(pytester.path / "out/report.json")}
    found = from_toml(table, **TOML)
    assert {name: found.get(name) for name in TOML} == expected


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="needs pytest 9, which reads [tool.pytest]")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", "3", "llmopt_seed must be a whole number from 0 to 4294967295, got '3' in .*pyproject.toml"),
        ("seed", True, "llmopt_seed must be a whole number .* got True"),
        ("seed", -1, "llmopt_seed must be a whole number .* got -1"),
        ("threads", 1.5, "llmopt_threads must be a whole number from 0 to 1024, got 1.5"),
        ("download", "yes", "llmopt_download must be true or false, got 'yes'"),
        ("download", 1, "llmopt_download must be true or false, got 1"),
        ("model", [1, 2], r"llmopt_model must be a list of names, got \[1, 2\]"),
        ("model", 5, "llmopt_model must be a list of names, got 5"),
        ("dtype", ["float32"], r"llmopt_dtype must be one of auto, .* got \['float32'\]"),
        ("report", ["a"], r"llmopt_report must be a path, got \['a'\]"),
        ("draft", 5, "llmopt_draft must be a text, got 5"),
    ],
)
def test_another_type_in_toml_is_a_usage_error(from_toml, name, value, message):
    with pytest.raises(pytest.UsageError, match=message):
        from_toml(**{name: value})


# Paths


@pytest.fixture
def places(pytester, monkeypatch):
    """A project with its ini file, a folder below where pytest is started, and a home."""
    project, below, home = (pytester.path / name for name in ("project", "project/below", "home"))
    for model in (project / "model", below / "model", home / "model", below / "tiny-llama", below / "org/name"):
        model.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(below)
    return project, below, home


def test_paths_are_absolute_at_start_up_from_where_they_are_written(pytester, places, monkeypatch):
    project, below, home = places
    (project / "pytest.ini").write_text(
        "[pytest]\nllmopt_model = model, ~/model, tiny-llama, tiny-qwen, org/name, ./not-there\n"
        "llmopt_report = out/report.json\nllmopt_prompts = ~/prompts.jsonl\nllmopt_draft = model\n"
    )
    found = Settings.of(pytester.parseconfig("--llmopt-cache=../cache"))
    line = Settings.of(
        pytester.parseconfig("--llmopt-model=model,~/model,tiny-llama,tiny-qwen,org/name,other/name,zoo")
    )
    monkeypatch.chdir(home)
    # In the ini file: beside it. There is no folder `tiny-llama` or `org/name` there.
    beside = (str(project / "model"), str(home / "model"), "tiny-llama", "tiny-qwen", "org/name")
    assert found.models() == (*beside, str(project / "not-there"))
    assert found.report == project / "out/report.json"
    assert found.prompts == home / "prompts.jsonl"
    assert found.policy.draft == str(project / "model")
    assert found.policy.cache == project / "cache"
    # On the command line: from where pytest is started. A folder wins over a name of the zoo, and a hub id.
    started = (
        str(below / "model"),
        str(home / "model"),
        str(below / "tiny-llama"),
        "tiny-qwen",
        str(below / "org/name"),
    )
    assert line.models() == (*started, "other/name", *(name for name in ZOO if name not in started))
    assert line.report == project / "out/report.json"
    assert line.policy.cache == below / ".llmopt/cache"


def test_a_folder_in_a_marker_is_looked_for_where_pytest_is_started_and_then_beside_the_ini_file(
    pytester, places, monkeypatch
):
    project, below, home = places
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "other").mkdir()
    found = Settings.of(pytester.parseconfig())
    monkeypatch.chdir(home)
    assert found.models(("model", "other", "tiny-qwen")) == (str(below / "model"), str(project / "other"), "tiny-qwen")
