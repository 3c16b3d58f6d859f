"""Methods that Transformers loads by a config of its own: each a small file with options, needs and limits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.requirements import Package
from pytest_llmopt.optimizations.quantization._quantizer import Quantizer

if TYPE_CHECKING:
    from pytest_llmopt.core.optimization import LoadPlan


@dataclass(frozen=True)
class LibraryQuantizer(Quantizer):
    """Quantized while loading, by the config class that is named; every option that it has is handed to it."""

    config_class: ClassVar[str]
    """In `transformers.utils.quantization_config`."""

    def config(self) -> dict[str, Any]:
        """The arguments of the config class."""
        return {self.config_names.get(name, name): value for name, value in dataclasses.asdict(self).items()}

    def for_transformers(self, plan: LoadPlan) -> None:
        """Quantize while loading."""
        from transformers.utils import quantization_config

        kind = getattr(quantization_config, self.config_class)
        plan.set("load", "quantization_config", kind(**self.config()), by=_name(self))


@dataclass(frozen=True)
class CheckpointOnlyQuantizer(Quantizer):
    """Checkpoints only: Transformers loads them, and quantizing is the business of the method's own tools."""

    def for_transformers(self, plan: LoadPlan) -> None:  # noqa: ARG002 - an engine hands the plan to each
        """Refuse: there is nothing to load yet.

        Raises:
            OptionError: always; says what to write instead.
        """
        name = _name(self)
        msg = f"{name} loads checkpoints that are quantized already: write quantized({name!r}, checkpoint=...)"
        raise OptionError(msg)


HUB_KERNELS = "kernels>=0.18.2,<0.19"
"""What Transformers 5.23.0 takes for present of the package that fetches kernels from the hub."""


def needs(spec: str, extra: str, *, module: str | None = None) -> Package:
    """A package, with the extra that installs it."""
    return Package(spec, module=module, install=f"pip install 'pytest-llmopt[{extra}]'")


def _name(item: Quantizer) -> str:
    return type(item).__module__.rpartition(".")[2]
