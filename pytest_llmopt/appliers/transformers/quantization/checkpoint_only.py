"""Methods that only load what is quantized already."""

from __future__ import annotations

from typing import Any

from pytest_llmopt.core.applying import Applier
from pytest_llmopt.core.errors import OptionError

__all__ = ["applier"]


def _apply(options: Any, _plan: object) -> None:
    """Refuse: there is nothing to load yet.

    Raises:
        OptionError: always; says what to write instead.
    """
    name = type(options).__module__.rpartition(".")[2]
    msg = f"{name} loads checkpoints that are quantized already: write quantized({name!r}, checkpoint=...)"
    raise OptionError(msg)


applier = Applier(_apply)
