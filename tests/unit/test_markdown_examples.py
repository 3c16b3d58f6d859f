"""What is wrong in an example of the docs is found."""

from pathlib import Path

import pytest
from markdown_examples import Page, check_commands, check_settings

WRONG = {
    "    llmopt gate tiny-llama --llmopt-moodel x": "--llmopt-moodel",
    "    llmopt gate --suites accuracy": "--suites",
    "run `pytest -n 2 --dits loadgroup`": "--dits",
    "    make tets  # run the tests": "tets",
}
SETTINGS = {
    "```ini\n[pytest]\nllmopt_modle = x\n```": "llmopt_modle",
    "```toml\n[tool.pytest.ini_options]\nllmopt_sed = 1\n```": "llmopt_sed",
    "the option `--llmopt-promts` gives": "--llmopt-promts",
}


def page(text):
    return Page(Path("page.md"), text)


@pytest.mark.parametrize("text", WRONG)
def test_a_command_with_an_option_that_does_not_exist(pytestconfig, text):
    with pytest.raises(AssertionError, match=f"there is no {WRONG[text]}"):
        check_commands(page(text), pytestconfig)


@pytest.mark.parametrize("text", SETTINGS)
def test_a_setting_that_does_not_exist(pytestconfig, text):
    with pytest.raises(AssertionError, match=SETTINGS[text]):
        check_settings(page(text), pytestconfig)


def test_a_block_that_is_not_python(pytestconfig):
    with pytest.raises(SyntaxError):
        check_settings(page("```python\ndef f(:\n```"), pytestconfig)


def test_what_exists_is_let_through(pytestconfig):
    text = "    make test\n    llmopt gate --suite accuracy --llmopt-dtype bfloat16 x -k nf4\n"
    text += "```ini\n[pytest]\nllmopt_seed = 1\n```"
    check_commands(page(text), pytestconfig)
    check_settings(page(text), pytestconfig)


def test_blocks_go_where_a_project_has_them():
    """Tests together, hooks and fixtures beside them, and what belongs to another project nowhere."""
    blocks = (
        "def test_one(): ...",
        "from not_installed_anywhere import x\n\n\ndef test_other(): ...",
        "def pytest_llmopt_optimizations(config): ...",
        "class Theirs: ...",
        "x = 1",
    )
    entry = '```toml\n[project.entry-points."pytest_llmopt.checks"]\ntheirs = "package.module:Theirs"\n```\n'
    files = page(entry + "".join(f"```python\n{block}\n```\n" for block in blocks)).files()
    assert sorted(files) == ["conftest.py", "site/package/module.py", "test_page.py"]
    assert "test_one" in files["test_page.py"]
    assert "test_other" not in files["test_page.py"]
