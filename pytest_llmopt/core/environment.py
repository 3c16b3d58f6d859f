"""What a result depends on beside the code under test: library versions and hardware."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

from pytest_llmopt._version import __version__

PACKAGES = (
    "accelerate",
    "auto-round",
    "bitsandbytes",
    "compressed-tensors",
    "gguf",
    "gptqmodel",
    "hqq",
    "numpy",
    "optimum",
    "optimum-quanto",
    "peft",
    "pytest",
    "pytest-benchmark",
    "safetensors",
    "torch",
    "torchao",
    "transformers",
)


def describe_environment() -> dict[str, object]:
    """The environment of this process: plain JSON values. Imports none of the libraries that it names."""
    return {
        "pytest_llmopt": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_count": cpu_count(),
        "gpus": _gpus(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }


def fingerprint(environment: dict[str, object]) -> str:
    """Twelve hexadecimal digits; timings and noise floors compare only where they are equal."""
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:12]


def cpu_count() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
