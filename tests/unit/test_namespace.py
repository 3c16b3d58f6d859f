"""The public names: resolved when used, complete, and with the nearest one where a name is wrong."""

import subprocess
import sys

import pytest

import pytest_llmopt
from pytest_llmopt import llmopt
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.names import MARKERS, own_markers


@pytest.mark.parametrize("name", pytest_llmopt.__all__)
def test_every_public_name_resolves(name):
    assert getattr(pytest_llmopt, name) is not None


def test_public_names_are_sorted():
    assert pytest_llmopt.__all__ == sorted(pytest_llmopt.__all__)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = pytest_llmopt.nope


def test_importing_the_package_imports_nothing_else():
    code = "import sys, pytest_llmopt; print(*(m for m in sys.modules if m.startswith(('pytest', 'numpy', 'torch'))))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) == {"pytest_llmopt", "pytest_llmopt._version"}


@pytest.mark.parametrize("name", sorted({*MARKERS, *own_markers()}))
def test_every_marker_is_a_real_pytest_mark(name):
    assert getattr(llmopt, name).mark.name == f"llmopt_{name}"


@pytest.mark.parametrize("name", Registry("checks", "check").names())
def test_every_check_has_an_assertion(name):
    assert getattr(llmopt, f"assert_{name}").__name__ == f"assert_{name}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("static_cach", "unknown marker 'static_cach'; did you mean 'static_cache'?"),
        ("variant", "did you mean 'variants'?"),
        ("assert_equal", "unknown check 'equal'"),
    ],
)
def test_a_wrong_name_is_an_attribute_error_with_the_nearest(name, message):
    with pytest.raises(AttributeError) as raised:
        getattr(llmopt, name)
    assert message in str(raised.value)
    assert not hasattr(llmopt, name)


def test_variants_are_parameters_with_their_own_marks():
    mark = llmopt.variants({"one": llmopt.static_cache(), "two": [llmopt.gpu, llmopt.attention("eager")]}).mark
    assert mark.name == "parametrize"
    names, parameters = mark.args
    assert names == "llmopt_variant"
    assert [parameter.id for parameter in parameters] == ["one", "two"]
    assert [[item.name for item in parameter.marks] for parameter in parameters] == [
        ["llmopt_static_cache"],
        ["llmopt_gpu", "llmopt_attention"],
    ]
