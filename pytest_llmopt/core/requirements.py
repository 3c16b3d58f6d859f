"""What a variant needs from the machine, checked before anything heavy is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from typing import Protocol

from packaging.requirements import Requirement as Specifier

from pytest_llmopt.core.errors import OptionError, RequirementMissingError
from pytest_llmopt.core.text import shown

LARGEST_SIZE = 2**60
"""Bytes; no machine has more."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Requirement(Protocol):
    """One thing that must be there before a variant can load."""

    @property
    def name(self) -> str:
        """The name that `--llmopt-require` matches, such as `gpu` or `bitsandbytes`."""
        ...

    def missing(self) -> str | None:
        """What is missing and how to get it, or None when the requirement is met."""
        ...


@dataclass(frozen=True)
class Package:
    """An installed distribution, such as `bitsandbytes>=0.49`.

    `module` is the import name where it differs from the distribution's; `install` is what to type where that is
    more than `pip install SPEC`.
    """

    spec: str
    module: str | None = None
    install: str | None = None

    @property
    def name(self) -> str:
        """The distribution's name."""
        return Specifier(self.spec).name

    def missing(self) -> str | None:
        """What is missing: the package, or a version of it that fits."""
        wanted = Specifier(self.spec)
        how = self.install or f"pip install '{self.spec}'"
        if not _importable(self.module or wanted.name.replace("-", "_")):
            return f"needs {self.spec}, which is not installed: {how}"
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            return None  # importable without metadata (a source tree): trust it
        if not wanted.specifier.contains(version, prereleases=True):
            return f"needs {self.spec}, found {version}: {how}"
        return None


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a part of a package that is not there
        return False


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler, for libraries that compile their kernels when these are first used."""

    ninja: bool = False
    """Whether the build tool is needed as well."""
    name: str = "compiler"

    def missing(self) -> str | None:
        """What is not on the path: the compiler that `CXX` names, or `c++`, or ninja."""
        compiler = os.environ.get("CXX", "c++").split()[0]
        if shutil.which(compiler) is None:
            return f"needs a C++ compiler, and {compiler} is not on the path: install g++ or set CXX"
        if self.ninja and shutil.which("ninja") is None:
            return "needs ninja to compile its kernels, and it is not on the path: pip install ninja"
        return None


@dataclass(frozen=True)
class Cuda:
    """CUDA devices: how many, with how many free bytes, of which compute capability."""

    memory: int = 0
    capability: tuple[int, int] = (0, 0)
    count: int = 1
    name: str = "gpu"

    def missing(self) -> str | None:
        """What this machine lacks. Imports torch only where it is installed."""
        wanted = self._wanted()
        if importlib.util.find_spec("torch") is None:
            return f"needs {wanted}, and torch is not installed: pip install 'pytest-llmopt[transformers]'"
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        fitting = sum(
            torch.cuda.get_device_capability(device) >= self.capability
            and torch.cuda.mem_get_info(device)[0] >= self.memory
            for device in range(found)
        )
        if fitting >= self.count:
            return None
        here = "none" if found == 0 else f"{found}, of which {fitting} fit"
        return f"needs {wanted} (this machine: {here})"

    def _wanted(self) -> str:
        parts = ["a CUDA device" if self.count == 1 else f"{self.count} CUDA devices"]
        if self.capability > (0, 0):
            parts.append(f"compute capability >= {self.capability[0]}.{self.capability[1]}")
        if self.memory:
            parts.append(f"{format_bytes(self.memory)} free")
        return ", ".join(parts)


def device_requirements(device: object) -> tuple[Requirement, ...]:
    """What a device of that name needs: so many CUDA devices, or nothing that is known here."""
    found = re.fullmatch(r"cuda(?::(\d+))?", device) if isinstance(device, str) else None
    return () if found is None else (Cuda(count=int(found[1] or 0) + 1),)


def require(*requirements: Requirement) -> None:
    """Raise for the first requirement that is not met.

    Raises:
        RequirementMissingError: with the requirement's name and how to get it.
    """
    for requirement in requirements:
        reason = requirement.missing()
        if reason is not None:
            raise RequirementMissingError(requirement.name, reason)


def parse_bytes(value: str | float) -> int:
    """A size in bytes, from a number of bytes or a text such as `"6 GiB"` or `"500 MB"`.

    Raises:
        OptionError: the text is not a size, or the size is not positive.
    """
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmg]?i?b?)\s*", value, re.IGNORECASE)
        unit = match[2].upper() if match else None
        if match is None or unit not in _UNITS:
            msg = f"{shown(value)} is not a size; write a number of bytes or text such as '6 GiB' or '500 MB'"
            raise OptionError(msg)
        value = float(match[1]) * _UNITS[unit]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= LARGEST_SIZE:
        msg = f"a size must be positive and finite, got {shown(value)}; write a number of bytes or text such as '6 GiB'"
        raise OptionError(msg)
    return int(value)


def format_bytes(size: float) -> str:
    """A size in bytes as text with a binary unit, three significant digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 999.5:  # noqa: PLR2004 - beyond it three digits are not enough
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
