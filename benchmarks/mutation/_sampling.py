"""Sampling in parts that a mutant gets wrong: the random numbers apart from what is made of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from _speculation import replaced, while_generating
from mutation import Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["DrawsByHand"]


@dataclass(frozen=True)
class DrawsByHand(Mutant):
    """Draws by the inverse of the distribution function, one number for each row and step: honest as it is."""

    category: ClassVar[str] = "sampling"
    honest: ClassVar[bool] = True

    @cached_property
    def held(self) -> list[float]:
        """What a mutant keeps from one step to the next."""
        return []

    def numbers(self, rows: int, step: int) -> Tensor:  # noqa: ARG002 - for those who override it
        """From [0, 1): `[rows]`."""
        return torch.rand(rows)

    def change(self, model: Any) -> None:
        """In place of the library's draw, while this model generates."""

        @contextmanager
        def around(_kwargs: dict[str, Any]) -> Iterator[None]:
            step = [0]

            def draw(probabilities: Tensor, num_samples: int = 1, **_: Any) -> Tensor:  # noqa: ARG001
                numbers = self.numbers(len(probabilities), step[0])
                step[0] += 1
                summed = probabilities.double().cumsum(-1)
                wanted = numbers.double()[:, None] * summed[:, -1:]
                places = torch.searchsorted(summed, wanted, right=True)
                return places.clamp(max=probabilities.shape[-1] - 1)

            self.held.clear()
            with replaced(torch, "multinomial", draw):
                yield

        while_generating(model, around)
