"""NVFP4, quantized while loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmopt.appliers.transformers.quantization.integrated import applier as integrated
from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import OptionError

if TYPE_CHECKING:
    from pytest_llmopt.engines._transformers.plan import LoadPlan

__all__ = ["applier"]


def _load(_options: Any, _plan: LoadPlan) -> None:
    """Refuse: Transformers neither writes such a checkpoint nor reads one.

    Raises:
        OptionError: always.
    """
    msg = "Transformers does not load nvfp4 checkpoints: write quantized('nvfp4'), which quantizes while loading"
    raise OptionError(msg)


applier = Applier(integrated.apply, _load)
