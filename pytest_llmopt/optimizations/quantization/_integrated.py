"""Methods that Transformers loads by a config of its own: each a small file with options, needs and limits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from pytest_llmopt.core.requirements import Package
from pytest_llmopt.optimizations.quantization._quantizer import Quantizer


@dataclass(frozen=True)
class LibraryQuantizer(Quantizer):
    """Quantized while loading, by the config class that is named; every option that it has is handed to it."""

    config_class: ClassVar[str]
    """In `transformers.utils.quantization_config`."""

    def config(self) -> dict[str, Any]:
        """The arguments of the config class."""
        return {self.config_names.get(name, name): value for name, value in dataclasses.asdict(self).items()}


HUB_KERNELS = "kernels>=0.18.2,<0.19"
"""What Transformers 5.23.0 takes for present of the package that fetches kernels from the hub."""


def needs(spec: str, extra: str, *, module: str | None = None) -> Package:
    """A package, with the extra that installs it."""
    return Package(spec, module=module, install=f"pip install 'pytest-llmopt[{extra}]'")


def name_of(item: Quantizer) -> str:
    """As its file is called."""
    return type(item).__module__.rpartition(".")[2]
