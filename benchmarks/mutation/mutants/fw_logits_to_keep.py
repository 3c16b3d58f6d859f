"""Asked for the logits of the last few tokens, the head gives those of the first few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mutation import Mutant

__all__ = ["FirstLogitsKept"]


@dataclass(frozen=True)
class FirstLogitsKept(Mutant):
    """Nothing at one token, which is all that decoding asks for."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "FW logits_to_keep above 1"
    base: ClassVar = (("kernels.attention", {"implementation": "eager"}),)
    models: ClassVar = ("tiny-gemma",)
    needs: ClassVar = ("logits_to_keep",)

    def change(self, model: Any) -> None:
        """Turn the slice around."""
        own = model.forward

        def forward(*args: Any, logits_to_keep: Any = 0, **kwargs: Any) -> Any:
            if not isinstance(logits_to_keep, int) or logits_to_keep < 2:
                return own(*args, logits_to_keep=logits_to_keep, **kwargs)
            output = own(*args, logits_to_keep=0, **kwargs)
            output.logits = output.logits[:, :logits_to_keep]
            return output

        model.forward = forward
