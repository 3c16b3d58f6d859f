"""What every pytest run in a clone shares: the tests, the examples of README.md and docs/, the suites beside them.

The wheel does not hold this file, and `pytest suites` does not read it: the suites have settings of their own.
"""

import os

# One thread for each worker of this machine, and no hub: before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest_plugins = ["pytester", "margins"]

import contextlib
import importlib
import json
from pathlib import Path

import pytest

# pytester forgets what a run in this process imported; what is here already stays, and stays one module.
import pytest_llmopt.cli
import pytest_llmopt.collection
import pytest_llmopt.llmopt
import pytest_llmopt.reporting.terminal  # noqa: F401

ROOT = Path(__file__).parent
SETTINGS = """
[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:anyio
llmopt_prompts = prompts.jsonl
filterwarnings = default
"""
PROMPTS = [
    {"id": "code", "text": "def main(argv):\n    import os\n    return"},
    {"id": "prose", "text": "The value of the expression is"},
    {"id": "short", "text": "if"},
    {"id": "list", "text": "one, two, three, four,"},
]


def pytest_collect_file(file_path, parent):
    """Collect the examples of README.md and docs/."""
    if file_path.suffix != ".md" or not {ROOT / "README.md", ROOT / "docs"} & {file_path, *file_path.parents}:
        return None
    from markdown_examples import PageFile

    return PageFile.from_parent(parent, path=file_path)


def pytest_collection_modifyitems(items):
    """Let the suites warn as they may by their own settings, also where they run beside the tests."""
    for item in items:
        if ROOT / "suites" in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::UserWarning"))


@pytest.fixture(scope="session")
def libraries():
    """Run every family and quantizer once, so that no run in this process imports torch and its like anew.

    A quantizer that registers operators cannot even be imported twice.
    """
    from sides import open_side

    from pytest_llmopt.core.loading import ZOO
    from pytest_llmopt.core.registry import Registry
    from pytest_llmopt.core.sampling import SamplingParams
    from pytest_llmopt.core.variant import Applied, Variant
    from pytest_llmopt.optimizations.quantization._calibrated import CheckpointQuantizer
    from pytest_llmopt.optimizations.quantization._checkpoint_only import CheckpointOnlyQuantizer

    # What adapters and calibrating methods import on their way; pyarrow refuses the types of `datasets` twice.
    for library in ("datasets", "peft"):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    for name in Registry("checks", "check").names():
        Registry("checks", "check").load(name)
    optimizations = Registry("optimizations", "optimization")
    # What writes a checkpoint first takes long, what only loads one has no defaults, and not every library is here.
    quantizers = {
        name: kind()
        for name in optimizations.names()
        if name.startswith("quantization.")
        and not issubclass(kind := optimizations.load(name), (CheckpointQuantizer, CheckpointOnlyQuantizer))
        and not name.endswith(".configured")
        and not any(need.missing() for need in kind().requirements)
    }
    variants = [Variant(model) for model in ZOO]
    variants += [Variant(ZOO[0], (Applied(name, item),)) for name, item in quantizers.items()]
    for variant in variants:
        side = open_side(variant)
        side.generate([side.encode("import")], SamplingParams(max_new_tokens=2))


@pytest.fixture
def project(pytester, libraries, monkeypatch):
    """A folder with four prompts and a function that runs pytest in it, in this process."""
    # The runs inside are not part of the xdist session that this test may be in; pytest-benchmark would think so.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    # Where one of these is set pytest cuts no line of its short summary: what is printed must not hang on it.
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini(SETTINGS)
    pytester.path.joinpath("prompts.jsonl").write_text("\n".join(map(json.dumps, PROMPTS)))
    return pytester


@pytest.fixture
def records(project):
    """A function that gives the records of the last run."""

    def read():
        from report_schema import valid

        return valid(json.loads(project.path.joinpath(".llmopt/report.json").read_text()))["records"]

    return read
