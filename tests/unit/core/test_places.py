"""A model is looked for in the folder given, then in the zoo, and is else a hub id; errors are one family."""

import inspect

import pytest

from pytest_llmopt.core import errors
from pytest_llmopt.core.loading import ZOO, LoadPolicy, fixtures_folder, locate, suites_folder


def test_a_local_folder_is_used_as_it_is(tmp_path):
    assert locate(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("model", [*ZOO, *(f"{name}-draft" for name in ZOO)])
def test_every_zoo_model_and_its_draft_are_found_by_name(model):
    assert locate(model) == str(fixtures_folder() / "models" / model)


@pytest.mark.parametrize("model", ["org/model", "no-such-model", "org/tiny-llama"])
def test_anything_else_is_a_hub_id(model):
    assert locate(model) == model


def test_a_local_folder_wins_over_a_zoo_model_of_that_name(tmp_path, monkeypatch):
    tmp_path.joinpath("tiny-llama").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("tiny-llama") == "tiny-llama"


def test_fixtures_and_suites_are_there():
    assert fixtures_folder().joinpath("models").is_dir()
    assert suites_folder().joinpath("equivalence").is_dir()


def test_nothing_is_downloaded_unpickled_or_executed_unasked():
    policy = LoadPolicy()
    assert (policy.download, policy.trust_remote_code, policy.unsafe_weights) == (False, False, False)


def test_every_error_is_one_of_ours_and_a_failed_check_is_an_assertion():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert len(kinds) > 5
    for kind in kinds:
        expected = AssertionError if kind is errors.VerdictError else errors.LlmoptError
        assert issubclass(kind, UserWarning if kind.__name__.endswith("Warning") else expected)


def test_a_missing_requirement_keeps_its_name_beside_its_reason():
    error = errors.RequirementMissingError("gpu", "needs a CUDA device")
    assert (error.name, str(error)) == ("gpu", "needs a CUDA device")
