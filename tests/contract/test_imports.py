"""Importing whatever is registered, and building it, costs no heavy import."""

import json
import subprocess
import sys

HEAVY = {"torch", "transformers", "torchao", "bitsandbytes", "vllm", "onnxruntime", "accelerate", "safetensors"}
LOAD_ALL = """
import json, sys
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant

loaded = {}
for folder in ("optimizations", "engines", "checks"):
    registry = Registry(folder, folder)
    loaded[folder] = {name: registry.load(name) for name in registry.names()}
for name, kind in loaded["optimizations"].items():
    variant = Variant("m", (Applied(name, build(kind, name, (), {})),))
    variant.digest, variant.label, variant.promises
print(json.dumps([sum(map(len, loaded.values())), sorted(sys.modules)]))
"""


def test_loading_everything_that_is_registered_imports_no_heavy_library():
    done = subprocess.run([sys.executable, "-c", LOAD_ALL], check=True, capture_output=True, text=True)
    count, modules = json.loads(done.stdout)
    assert count >= 9
    assert HEAVY & set(modules) == set()
    assert "pytest" not in modules, "only the pytest face needs pytest"
