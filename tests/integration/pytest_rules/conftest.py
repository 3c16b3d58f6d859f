"""Real pytest runs that load no model: what a test compares is read where collection ends."""

import pytest

# Imported here, so that a run in this process imports none of it anew.
import pytest_llmopt.gate_line  # noqa: F401

SETTINGS = """
[pytest]
addopts = --strict-markers -p no:hypothesispytest -p no:anyio -p no:benchmark
llmopt_model = tiny-llama
filterwarnings = default
"""
CONFTEST = """
from dataclasses import dataclass

import pytest
from pytest_llmopt import Package, Promise

@dataclass(frozen=True)
class Exotic:
    promise = Promise.EQUIVALENT
    requirements = (Package("exotic-optimization>=2"),)
    conflicts = {}
    level: int = 1
    def for_transformers(self, plan): raise AssertionError("must not load")

def pytest_llmopt_optimizations(config):
    return {"mine.exotic": Exotic}

@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    from pytest_llmopt.collection import COMPARISON, REQUIREMENTS
    for item in session.items:
        comparison = item.stash.get(COMPARISON, None)
        if comparison is not None:
            name = item.nodeid.rpartition("::")[2].partition("@")[0]
            budget = comparison.budget.ttft_ms if comparison.budget else None
            needs = ",".join(need.name for need in item.stash[REQUIREMENTS])
            sides = f"{comparison.candidate.label} against {comparison.reference.label} on {comparison.candidate.model}"
            print(f"\\n<{name}: {sides}, ttft {budget}, needs {needs or None}>")
"""
EXOTIC = 'llmopt.optimization("mine.exotic")'
"""A marker whose test skips, since what it needs is not there."""


@pytest.fixture
def rules(pytester, monkeypatch):
    """A folder whose tests skip rather than load a model, and say what they compare."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini(SETTINGS)
    pytester.makeconftest(CONFTEST)
    return pytester


@pytest.fixture
def described(rules):
    """A function that collects a test file, and gives what each test compares by its name."""

    def described(source, *options):
        rules.makepyfile(source)
        result = rules.runpytest_inprocess("--collect-only", "-q", *options)
        lines = [line[1:-1] for line in result.outlines if line.startswith("<") and ": " in line]
        return dict(line.split(": ", 1) for line in lines), result

    return described
