"""The temperature is applied twice: by the sampler and by the kernel below it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import while_generating
from mutation import Mutant

__all__ = ["TemperatureTwice"]


@dataclass(frozen=True)
class TemperatureTwice(Mutant):
    """Text is less varied than asked for below 1, more so above."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL05 vllm-project/vllm#26859"
    needs: ClassVar[tuple[str, ...]] = ("sampling",)

    def change(self, model: Any) -> None:
        """Square it."""

        def around(kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            if kwargs.get("do_sample"):
                kwargs["temperature"] **= 2
            return nullcontext()

        while_generating(model, around)
