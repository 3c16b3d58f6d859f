"""Whatever produces a checkpoint and has no file of its own: the checkpoint is loaded as it is."""

from __future__ import annotations

from typing import Any

from pytest_llmopt.core.applying import Applier, load_produced

__all__ = ["applier"]


def _nothing_more(_options: Any, _plan: object) -> None:
    """The checkpoint says all."""


applier = Applier(load_produced(_nothing_more))
