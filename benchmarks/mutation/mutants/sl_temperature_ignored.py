"""A default of 1 replaces the temperature of the request."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from _speculation import while_generating
from mutation import Mutant

__all__ = ["TemperatureIgnored"]


@dataclass(frozen=True)
class TemperatureIgnored(Mutant):
    """The same variety at every temperature."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = "SL05 vllm-project/vllm#26859 (the parameter does not arrive)"
    needs: ClassVar[tuple[str, ...]] = ("sampling",)

    def change(self, model: Any) -> None:
        """Take it out."""

        def around(kwargs: dict[str, Any]) -> AbstractContextManager[None]:
            if kwargs.get("do_sample"):
                kwargs["temperature"] = 1.0
            return nullcontext()

        while_generating(model, around)
