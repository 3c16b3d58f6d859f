"""A registry lists files and entry points without importing them, and loads by name."""

import json
import subprocess
import sys
import textwrap

import pytest

from pytest_llmopt.core.errors import UnknownNameError
from pytest_llmopt.core.registry import Registry

LIST_AND_SHOW_MODULES = """
import json, sys
from pytest_llmopt.core.registry import Registry
names = {folder: Registry(folder, "thing").names() for folder in ("optimizations", "engines", "checks")}
print(json.dumps([names, sorted(sys.modules)]))
"""


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """An installed distribution that adds an optimization and an engine of its own."""
    tmp_path.joinpath("their_package.py").write_text("class Theirs: pass\n")
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(
        textwrap.dedent("""
            [pytest_llmopt.optimizations]
            quantization.theirs = their_package:Theirs
            quantization.torchao = their_package:Theirs
            [pytest_llmopt.engines]
            theirs = their_package:missing
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("their_package", None)


def test_listing_imports_none_of_the_files():
    done = subprocess.run([sys.executable, "-c", LIST_AND_SHOW_MODULES], check=True, capture_output=True, text=True)
    names, modules = json.loads(done.stdout)
    assert "transformers" in names["engines"]
    assert "quantization.bitsandbytes" in names["optimizations"]
    assert "equivalent" in names["checks"]
    imported = [name for name in modules if name.startswith("pytest_llmopt.") and ".core" not in name]
    assert imported == ["pytest_llmopt._version"]
    assert not {"torch", "transformers", "bitsandbytes", "torchao"} & set(modules)


@pytest.mark.parametrize("folder", ["optimizations", "engines", "checks"])
def test_helpers_with_an_underscore_are_not_listed(folder):
    names = Registry(folder, "thing").names()
    assert names == tuple(sorted(names))
    assert not [name for name in names if any(part.startswith("_") for part in name.split("."))]


def test_a_name_is_loaded_from_the_file_of_that_name():
    from pytest_llmopt.optimizations.decoding.static_cache import StaticCache

    assert Registry("optimizations", "optimization").load("decoding.static_cache") is StaticCache


def test_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown gadget 'b'; did you mean 'bb'\? Known: aa, bb\."):
        Registry("no_such_folder", "gadget", {"bb": 1, "aa": 2}).load("b")


def test_unknown_name_with_nothing_near():
    with pytest.raises(UnknownNameError, match=r"unknown gadget 'zzz'\. Known: aa\."):
        Registry("no_such_folder", "gadget", {"aa": 2}).load("zzz")


def test_unknown_name_where_nothing_is_registered():
    with pytest.raises(UnknownNameError, match=r"unknown gadget 'x'\. Known: none\."):
        Registry("no_such_folder", "gadget").load("x")


@pytest.mark.usefixtures("distribution")
def test_entry_points_of_other_packages_are_found_and_imported_only_when_loaded():
    registry = Registry("optimizations", "optimization")
    assert "quantization.theirs" in registry.names()
    assert "their_package" not in sys.modules
    assert registry.load("quantization.theirs").__name__ == "Theirs"
    assert registry.load("quantization.theirs").__module__ == "their_package"


@pytest.mark.usefixtures("distribution")
def test_entry_points_belong_to_the_registry_of_their_group():
    assert "theirs" in Registry("engines", "engine").names()
    assert "quantization.theirs" not in Registry("engines", "engine").names()


@pytest.mark.usefixtures("distribution")
def test_a_file_of_ours_wins_over_an_entry_point_and_is_listed_once():
    registry = Registry("optimizations", "optimization")
    assert registry.names().count("quantization.torchao") == 1
    assert registry.load("quantization.torchao").__name__ == "TorchAo"


@pytest.mark.usefixtures("distribution")
@pytest.mark.parametrize("name", ["quantization.theirs", "quantization.torchao", "quantization.new"])
def test_what_is_added_for_the_session_wins_over_files_and_entry_points(name):
    added = object()
    registry = Registry("optimizations", "optimization", {name: added})
    assert registry.load(name) is added
    assert name in registry.names()
