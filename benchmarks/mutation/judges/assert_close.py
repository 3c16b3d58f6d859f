"""Logits of one forward pass, by `torch.testing.assert_close` with the tolerances that it has for the dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cases import Case

__all__ = ["assert_close"]


def assert_close(case: Case) -> str | None:
    """The first batch whose logits differ."""
    import torch

    for inputs in case.batches:
        try:
            torch.testing.assert_close(case.logits(case.candidate, inputs), case.logits(case.reference, inputs))
        except AssertionError as error:
            return str(error).split("\n\n")[-1].splitlines()[0]
    return None
