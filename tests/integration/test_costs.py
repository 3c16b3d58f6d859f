"""What a run costs, told by counts: a clock says something else on every machine."""

import gc
import importlib.metadata
import subprocess
import sys
from collections import Counter

import pytest

from pytest_llmopt import collection

MANY = """
from pytest_llmopt import llmopt

SIZES = {f"cache{size}": llmopt.static_cache(max_cache_len=size) for size in range(200, 260)}

@llmopt.variants(SIZES)
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts)
"""
LATER = """
import pytest

def pytest_configure(config):
    config.option.loadgroup = True  # as in a worker of pytest-xdist

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items[:LATER]:
        item.add_marker("llmopt_prompt_lookup")
"""
CHECK = """
from pytest_llmopt import llmopt

@llmopt.static_cache()
def test_it(candidate, reference, prompts):
    llmopt.assert_equivalent(candidate, reference, prompts, max_new_tokens=8, forced_tokens=0, least_positions=1)
"""

CLOSED = """
import gc, weakref

gc.disable()
from pytest_llmopt.core.loading import LoadPolicy
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.engines.transformers import TransformersEngine

engine = TransformersEngine.open(Variant("tiny-llama"), LoadPolicy())
weights = [weakref.ref(parameter) for parameter in engine._running.loaded.model.parameters()]
collected = []
gc.collect = collected.append
engine.close()
print(bool(weights), sum(own() is not None for own in weights), len(collected))
"""


@pytest.fixture
def groups_read(monkeypatch):
    """How often the entry points of each group of ours were read."""
    read, given = Counter(), importlib.metadata.entry_points

    def counted(**wanted):
        read[wanted.get("group")] += 1
        return given(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", counted)
    return read


@pytest.mark.parametrize("later", [0, 3])
def test_collection_reads_entry_points_once_and_builds_each_comparison_once(project, monkeypatch, groups_read, later):
    """Also under `--dist loadgroup`, which asks for it earlier; anew where a hook adds a marker in between."""
    built, compare = [], collection.compare
    monkeypatch.setattr(collection, "compare", lambda *given: built.append(given) or compare(*given))
    project.makeconftest(LATER.replace("LATER", str(later)))
    project.makepyfile(MANY)
    result = project.runpytest("--collect-only", "-q", "--llmopt-model=tiny-llama")
    result.stdout.fnmatch_lines("*60 tests collected*")
    assert len(built) == 60 + later
    ours = {group: count for group, count in groups_read.items() if str(group).startswith("pytest_llmopt.")}
    assert ours
    assert set(ours.values()) == {1}


def test_no_check_collects_garbage_in_full_and_none_imports_a_library_for_a_quantile(project, monkeypatch):
    """A full collection looks at everything that torch and Transformers have made, half a second each time."""
    callers, collect = [], gc.collect

    def counted(*generation):
        callers.append(sys._getframe(1).f_code.co_filename)
        return collect(*generation)

    monkeypatch.setattr(gc, "collect", counted)
    project.makepyfile(CHECK)
    result = project.runpytest("--llmopt-model=tiny-llama", "--llmopt-inconclusive=warn")
    result.assert_outcomes(passed=1, warnings=None)
    assert not [file for file in callers if "pytest_llmopt" in file]


def test_the_first_engine_of_a_process_gives_its_weights_back_at_once():
    """Without the garbage collector, and although the import of a library keeps the frames that it was called from."""
    done = subprocess.run([sys.executable, "-c", CLOSED], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "0", "0"]
