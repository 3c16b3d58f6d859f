"""The environment of a report is plain JSON, the same in every call, and imports nothing heavy."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmopt import __version__
from pytest_llmopt.core.environment import KERNEL_LIMITS, cpu_count, describe_environment, fingerprint


def test_the_environment_names_versions_and_hardware():
    environment = describe_environment()
    assert environment["pytest_llmopt"] == __version__
    assert environment["python"] == platform.python_version()
    assert environment["packages"]["numpy"]
    assert environment["cpu"]
    assert environment["cpu_count"] == cpu_count() >= 1


def test_other_kernels_are_another_environment(monkeypatch):
    for name in KERNEL_LIMITS:
        monkeypatch.delenv(name, raising=False)
    free = describe_environment()
    assert list(free["cpu_capability"]) == ["instruction_sets"]
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    limited = describe_environment()
    assert limited["cpu_capability"] == free["cpu_capability"] | {"ATEN_CPU_CAPABILITY": "default"}
    assert fingerprint(limited) != fingerprint(free)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux says it in a file")
def test_the_instruction_sets_tell_apart_processors_of_one_name(monkeypatch):
    free = describe_environment()
    told = "model name\t: AMD EPYC\nflags\t\t: fpu vme sse4_2 avx avx2 fma\nmodel name\t: AMD EPYC\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told)
    assert describe_environment()["cpu"] == "AMD EPYC"
    assert describe_environment()["cpu_capability"]["instruction_sets"] == "avx avx2 fma sse4_2"
    assert fingerprint(describe_environment()) != fingerprint(free)


def test_the_environment_is_plain_json():
    environment = describe_environment()
    assert json.loads(json.dumps(environment, allow_nan=False)) == environment


def test_the_fingerprint_is_stable_here_and_in_another_process_without_torch():
    code = (
        "import sys\n"
        "from pytest_llmopt.core.environment import describe_environment, fingerprint\n"
        "print(fingerprint({**describe_environment(), 'gpus': []}), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [fingerprint({**describe_environment(), "gpus": []}), "False"]


def test_the_fingerprint_changes_with_any_part_and_not_with_the_order():
    environment = describe_environment()
    assert fingerprint(environment) == fingerprint(dict(reversed(environment.items())))
    assert fingerprint(environment) != fingerprint({**environment, "cpu": "another"})
    assert len(fingerprint(environment)) == 12
