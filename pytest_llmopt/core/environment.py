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

KERNEL_LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Variables that make libraries choose kernels for an older processor."""
INSTRUCTION_SETS = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm", "vsx")
"""How the flags of a processor begin that kernels are chosen by."""


def describe_environment() -> dict[str, object]:
    """The environment of this process: plain JSON values. Imports none of the libraries that it names."""
    return {
        "pytest_llmopt": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_capability": cpu_capability(),
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


def cpu_capability() -> dict[str, str]:
    """The instruction sets that kernels are chosen by, and the variables that forbid some of them.

    Two processors of one name may differ in them, as a virtual machine hides what it likes. Asks no library: the one
    that would know takes seconds to import.
    """
    flags = {flag for line in _cpu_lines("flags", "Features") for flag in line.split()}
    known = sorted(flag for flag in flags if flag.startswith(INSTRUCTION_SETS))
    limits = {name: os.environ[name] for name in KERNEL_LIMITS if os.environ.get(name)}
    return {"instruction_sets": " ".join(known) or platform.machine()} | limits


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    names = _cpu_lines("model name")
    return names[0] if names else platform.processor() or platform.machine()


def _cpu_lines(*keys: str) -> list[str]:
    """What Linux says under these keys, a line for each processor; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    pairs = [line.partition(":") for line in lines]
    return [value.strip() for key, _, value in pairs if key.strip() in keys]


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
