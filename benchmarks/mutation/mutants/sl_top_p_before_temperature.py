"""The nucleus is cut from the distribution before the temperature is applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["TopPBeforeTemperature"]


@dataclass(frozen=True)
class TopPBeforeTemperature(Mutant):
    """Below 1 more tokens survive than should, above 1 fewer; nothing changes without the filter."""

    category: ClassVar[str] = "sampling"
    source: ClassVar[str] = (
        "SL order of the samplers (BN19 EleutherAI/lm-evaluation-harness#3154: back ends differ in it)"
    )
    needs: ClassVar[tuple[str, ...]] = ("sampling", "top_p")

    def change(self, model: Any) -> None:
        """Put the temperature last."""
        own = model._get_logits_processor  # noqa: SLF001 - where the library orders them

        def processors(*args: Any, **kwargs: Any) -> Any:
            given = own(*args, **kwargs)
            given.sort(key=lambda item: type(item).__name__ == "TemperatureLogitsWarper")
            return given

        model._get_logits_processor = processors  # noqa: SLF001
