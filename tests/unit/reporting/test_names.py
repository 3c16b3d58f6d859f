"""Short names of models and tests tell apart what is not the same."""

import pytest

from pytest_llmopt.reporting.names import apart, short_models


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["tiny-llama", "org/model"], ["tiny-llama", "org/model"]),
        (["/deep/folder/mine/"], ["mine"]),
        (["/a/one/mine", "/a/two/mine"], ["one/mine", "two/mine"]),
        (["/a/x/one/mine", "/a/y/one/mine", "/other"], ["x/one/mine", "y/one/mine", "other"]),
        (["/models/tiny-llama", "tiny-llama"], ["models/tiny-llama", "tiny-llama"]),
        (["/mine", "/a/mine"], ["/mine", "a/mine"]),
        (["/a/\x1b[31mred"], ["\\x1b[31mred"]),
        ([], []),
    ],
)
def test_two_models_never_share_a_name(models, names):
    assert list(short_models(models).values()) == names


def test_tests_of_equal_rows_are_told_apart_by_what_differs():
    assert apart(["t.py::A::test_x[m]", "t.py::A::test_y[m]"]) == {
        "t.py::A::test_x[m]": "test_x[m]",
        "t.py::A::test_y[m]": "test_y[m]",
    }
    assert list(apart(["a.py::test_x", "b.py::test_x"]).values()) == ["a.py::test_x", "b.py::test_x"]
